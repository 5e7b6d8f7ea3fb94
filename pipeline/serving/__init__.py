"""Uses a trained model: loads it, predicts, serves."""
