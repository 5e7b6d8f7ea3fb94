"""Files of weights: ours, and everyone else's formats."""
