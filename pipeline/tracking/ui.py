"""The view of the project's experiment in MLflow: columns, order, colors and description."""

import json
from collections.abc import Mapping

from pipeline.colors import LOSS_COLORS
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
"""As many as fit on the page. Loss and seed are in a run's name; loss values are not comparable."""

_SECTIONS = {"train": True, "val": True, "eval": True, "eval/iou": False, "system": False}
"""The sections of charts: by name, whether the section is open."""

_SEED_TINTS = (0.0, 0.35, 0.6)
"""The fraction of white in the colors of the first three seeds; the following seeds repeat them."""


def arm_color_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tag with an arm's color, a tint of its loss's color for each seed.

    MLflow picks colors at random by itself, often the same one for two arms.

    Args:
        tags: of a run; an arm has `loss` and `seed`.

    Returns:
        One tag; none if the run is no arm.
    """
    color = LOSS_COLORS.get(tags.get("loss", ""))
    if color is None:
        return {}
    white = _SEED_TINTS[int(tags.get("seed", "0")) % len(_SEED_TINTS)]
    channels = [int(color[start : start + 2], 16) for start in (1, 3, 5)]
    mixed = [round(channel + white * (255 - channel)) for channel in channels]
    return {"mlflow.runColor": "#" + "".join(f"{channel:02X}" for channel in mixed)}


def experiment_tags() -> dict[str, str]:
    """Return the tags of a new experiment."""
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
        "mlflow.experimentKind": "custom_model_development",  # otherwise the page opens on GenAI
        f"mlflow.sharedViewState.{store.VIEW_STATE_KEY}": json.dumps(state),
        "mlflow.note.content": (
            "SegFormer on Cityscapes, trained with different losses. Each run is one arm (a loss"
            " and a seed) with its training and evaluation. The run `ablation` is the parent of"
            " the arms that it compares."
        ),
    }
