"""How the project's experiment looks in MLflow's page: its columns, its order, its words."""

import json

from pipeline import store

_COLUMNS = (
    "metrics.`eval/miou`",
    "metrics.`eval/miou_low`",
    "metrics.`eval/miou_high`",
    "metrics.`train/loss`",
    "params.`train.variant`",
    "params.`train.steps`",
    "params.`train.learning_rate`",
    "tags.`loss`",
    "tags.`seed`",
    "tags.`protocol`",
    "tags.`git.dirty`",
    "tags.`dvc.exp`",
)

_SECTIONS = {"train": True, "val": True, "eval": True, "eval/iou": False, "system": False}
"""Of the charts: by name, whether it is open."""


def tags() -> dict[str, str]:
    """The tags of a new experiment."""
    sections = [
        {"uuid": name, "name": name, "display": is_open, "isReordered": True, "deleted": False}
        for name, is_open in _SECTIONS.items()
    ]
    state = {
        "selectedColumns": list(_COLUMNS),
        # Best first. Sorted by time, MLflow hides the arms below their ablation.
        "orderByKey": "metrics.`eval/miou`",
        "orderByAsc": False,
        "compareRunCharts": [],  # MLflow draws one for each metric
        "compareRunSections": sections,
        "isAccordionReordered": True,
    }
    return {
        "mlflow.experimentKind": "custom_model_development",  # or else the page opens on GenAI
        f"mlflow.sharedViewState.{store.VIEW}": json.dumps(state),
        "mlflow.note.content": (
            "SegFormer on Cityscapes, loss against loss. A run is one arm (loss and seed): its "
            "training and its evaluation. The run `ablation` is the parent of the arms it compares."
        ),
    }
