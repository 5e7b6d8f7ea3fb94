"""Makes the project's own MLflow database where there is none yet.

python -m pipeline.tracking.create_database
"""

from mlflow import MlflowClient

from pipeline.tracking import store

if __name__ == "__main__":
    store.create_database(MlflowClient)
