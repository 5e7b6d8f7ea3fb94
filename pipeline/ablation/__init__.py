"""Compares the arms of an ablation and reports the result."""
