"""The command line: what people and dvc.yaml type."""
