"""What the network attends to, and which classes drive its gradient."""
