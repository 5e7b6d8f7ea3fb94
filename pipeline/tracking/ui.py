"""How the project's experiment looks in MLflow's page: its columns, its order, its words."""

import json
from collections.abc import Mapping

from pipeline.tracking import store

_COLUMNS = (
    "metrics.`eval/miou`",
    "metrics.`eval/miou_low`",
    "metrics.`eval/miou_high`",
    "params.`train.steps`",
    "tags.`dvc.exp`",
    "tags.`gate.outcome`",
    "tags.`protocol`",
)
"""As many as a page shows; loss and seed are in a run's name, and losses are not comparable."""

_SECTIONS = {"train": True, "val": True, "eval": True, "eval/iou": False, "system": False}
"""Of the charts: by name, whether it is open."""

_COLORS = {
    "ce": "#333333",
    "dice": "#D55E00",
    "weighted_ce": "#0072B2",
    "ohem_ce": "#56B4E9",
    "focal": "#009E73",
    "log_dice": "#E69F00",
    "jaccard": "#CC79A7",
    "ce_dice": "#7A4FA3",
    "ce_jaccard": "#8C6D31",
}
"""Of a loss, in tables and charts; MLflow's own are drawn by lot, two arms often get the same."""

_TINTS = (0.0, 0.35, 0.6)
"""How much white is in the colour of a seed: of the first three, then again."""


def arm_color_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """The tag with an arm's colour, by its tags `loss` and `seed`; none for what is no arm."""
    color = _COLORS.get(tags.get("loss", ""))
    if color is None:
        return {}
    white = _TINTS[int(tags.get("seed", "0")) % len(_TINTS)]
    parts = [int(color[place : place + 2], 16) for place in (1, 3, 5)]
    mixed = [round(part + white * (255 - part)) for part in parts]
    return {"mlflow.runColor": "#" + "".join(f"{part:02X}" for part in mixed)}


def experiment_tags() -> dict[str, str]:
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
        f"mlflow.sharedViewState.{store.VIEW_STATE_KEY}": json.dumps(state),
        "mlflow.note.content": (
            "SegFormer on Cityscapes, loss against loss. A run is one arm (loss and seed): its "
            "training and its evaluation. The run `ablation` is the parent of the arms it compares."
        ),
    }
