"""One module per stage of dvc.yaml, with the function that does its work."""
