"""Files of weights: our checkpoints, and the formats of other implementations."""
