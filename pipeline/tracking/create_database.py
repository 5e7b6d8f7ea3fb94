"""Creates the project's own MLflow database, unless it exists.

python -m pipeline.tracking.create_database
"""

from mlflow import MlflowClient

from pipeline.tracking import store

if __name__ == "__main__":
    store.create_database(MlflowClient)
