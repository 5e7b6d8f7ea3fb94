"""Scheduled retraining as a Prefect flow; no other package imports Prefect."""
