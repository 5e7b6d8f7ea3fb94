"""Retraining in Prefect; alone imports it."""
