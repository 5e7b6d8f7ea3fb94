"""The parameters in params.yaml, one module per section; loads neither torch nor pandas."""
