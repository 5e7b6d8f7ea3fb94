"""How the project's experiment looks in MLflow's page."""


def tags() -> dict[str, str]:
    """The tags of a new experiment: what it is, and that its page is one of trainings."""
    return {
        "mlflow.experimentKind": "custom_model_development",  # or else the page opens on GenAI
    }
