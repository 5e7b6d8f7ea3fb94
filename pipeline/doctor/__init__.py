"""Checks the environment, the data and the services."""
