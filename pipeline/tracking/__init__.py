"""Records runs and models in MLflow; the only package that imports it."""

import os

from pipeline.tracking import store

# MLflow reads its settings when it is imported. Variables that the user has set take precedence.
os.environ.update(store.ENVIRONMENT | os.environ)
