"""Scores a model on frames."""
