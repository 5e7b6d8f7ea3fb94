"""Surrounds the training loop: setup, resume, fingerprint and error messages."""
