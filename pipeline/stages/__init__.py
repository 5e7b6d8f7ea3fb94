"""One module per stage of dvc.yaml: its parameters and the function that does it."""
