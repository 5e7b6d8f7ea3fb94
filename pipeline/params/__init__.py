"""The parameters of params.yaml, one module per section; imports neither torch nor pandas."""
