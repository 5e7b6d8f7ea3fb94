"""From packed frames to batches."""
