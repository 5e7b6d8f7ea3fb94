"""Remembers runs and models in MLflow; alone imports it."""

import os

from pipeline.tracking import store

# Before any module here imports MLflow, which reads its settings then; the user's own stay.
os.environ.update(store.ENVIRONMENT | os.environ)
