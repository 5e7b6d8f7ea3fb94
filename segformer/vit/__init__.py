"""A plain Vision Transformer with the weights of DINO, and the attention of its CLS token."""
