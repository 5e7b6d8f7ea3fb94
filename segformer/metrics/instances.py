"""The official iIoU: intersection over union in which a small instance counts like a large one.

A pixel of an instance weighs the average size of its class over the size of that instance, whether
found or missed; pixels wrongly taken for the class weigh 1. Defined on the benchmark page of
Cityscapes and in its script `evalPixelLevelSemanticLabeling`.
"""

from functools import cache

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from segformer.cityscapes import CLASSES, IGNORE, LABELS, NUM_CLASSES, Label
from segformer.metrics.confusion import CATEGORIES, Confusion, as_counts

AVERAGE_SIZES: dict[str, float] = {
    "person": 3462.4756337644,
    "rider": 3930.4788056518,
    "car": 12794.0202738185,
    "truck": 27855.1264367816,
    "bus": 35732.1511111111,
    "train": 67583.7075812274,
    "motorcycle": 6298.7200839748,
    "bicycle": 4672.3249222261,
}
"""Pixels of an average instance at 1024x2048, as the official script has them (`avgClassSize`)."""

INSTANCE_CLASSES: tuple[Label, ...] = tuple(label for label in CLASSES if label.has_instances)
"""The eight scored classes with instances, in train-id order."""

INSTANCE_CATEGORIES: tuple[str, ...] = tuple(
    name
    for name in CATEGORIES
    if all(label.has_instances for label in LABELS if label.category == name)
)
"""The two categories of which every label has instances: human and vehicle."""

UNSCORED_VEHICLE = 254
"""What `from_label_ids` makes of caravan and trailer.

They are scored nowhere, yet to the official script they are vehicles in that category's iIoU.
"""

UNSCORED: tuple[int, ...] = (IGNORE, UNSCORED_VEHICLE)
"""The ids beside the 19 classes in what `from_label_ids` returns; for `confusion_matrix`."""

IDS_PER_LABEL = 1000
"""An instance id is label id * 1000 + n; below 1000 it is a label id."""

_NUM_GROUPS = len(INSTANCE_CLASSES) + len(INSTANCE_CATEGORIES)


def from_label_ids(label_ids: ArrayLike) -> Tensor:
    """Read a prediction in label ids, as the test server takes it, for the scores here.

    Args:
        label_ids: any shape, integers 0..33.

    Returns:
        the same shape, uint8: 0..18 for the scored classes, else one of UNSCORED.

    Raises:
        ValueError: for an id that is no label's.
    """
    ids = np.asarray(label_ids)
    _check_range("a predicted label id", ids, len(LABELS))
    meanings = [
        UNSCORED_VEHICLE
        if label.train_id == IGNORE and label.category in INSTANCE_CATEGORIES
        else label.train_id
        for label in LABELS
    ]
    return torch.from_numpy(np.take(np.array(meanings, dtype=np.uint8), ids))


def count_instances(predicted: ArrayLike | Tensor, instance_ids: ArrayLike | Tensor) -> Tensor:
    """Count the weighted pixels of the instances in one frame that were found and missed.

    Args:
        predicted: (h, w) integers: train ids, or what `from_label_ids` returns.
        instance_ids: (h, w) integers as an instanceIds PNG holds them: label id * 1000 + n, or a
            label id below 1000 where no single instance is told apart; those are not counted here.

    Returns:
        (10, 2) float64 on the CPU; rows are INSTANCE_CLASSES, then INSTANCE_CATEGORIES; columns are
        found and missed, in pixels of an average instance. Frames are scored by their sum.

    Raises:
        ValueError: for other shapes, or an id that is none.
    """
    classes, instances = _to_numpy(predicted), _to_numpy(instance_ids)
    if instances.ndim != 2 or instances.shape != classes.shape:
        raise ValueError(
            f"prediction {classes.shape} and instance ids {instances.shape} must be of one frame "
            "(h, w): ids begin anew in every frame"
        )
    chosen = np.flatnonzero(instances >= IDS_PER_LABEL)
    ids, found = (one.ravel()[chosen].astype(np.int64) for one in (instances, classes))
    _check_range("an instance id", ids, len(LABELS) * IDS_PER_LABEL)
    _check_range("a predicted class", found, 256)
    sizes = np.bincount(ids, minlength=len(LABELS) * IDS_PER_LABEL)
    rank = np.cumsum(sizes > 0) - 1  # of an id among the i that occur
    present = np.flatnonzero(sizes)
    pixels = np.bincount(rank[ids] * 256 + found, minlength=len(present) * 256)
    return weight_instances(present.tolist(), torch.from_numpy(pixels.reshape(-1, 256)))


def instance_iou(counts: ArrayLike | Tensor, confusion: Confusion) -> Tensor:
    """Score each of INSTANCE_CLASSES: weighted found / (weighted found and missed + wrongly taken).

    Args:
        counts: (..., 10, 2) from `count_instances`, added up over frames.
        confusion: (..., 19, 19 + e) of the same frames, made with the first e of UNSCORED.

    Returns:
        (..., 8) float64, 0..1; nan for a class without instances that is taken for none either.

    Raises:
        ValueError: for other shapes.
    """
    return _iou(counts, confusion)[..., : len(INSTANCE_CLASSES)]


def category_instance_iou(counts: ArrayLike | Tensor, confusion: Confusion) -> Tensor:
    """Score each of INSTANCE_CATEGORIES as `instance_iou` does classes: (..., 2) float64.

    A pixel is found if any class of its category is predicted; it weighs as for its own class.
    """
    return _iou(counts, confusion)[..., len(INSTANCE_CLASSES) :]


def weight_instances(instance_ids: list[int], pixels: Tensor) -> Tensor:
    """Give what `count_instances` gives, of i instances with (i, 256) pixels predicted as each id.

    Raises:
        ValueError: for an id that is none.
    """
    labels = [LABELS[one // IDS_PER_LABEL] for one in instance_ids]
    for label in labels:
        if label.train_id != IGNORE and label not in INSTANCE_CLASSES:
            raise ValueError(f"an instance id says {label.name!r}, of which there are no instances")
    predictions = [*range(NUM_CLASSES), *UNSCORED]
    strange = pixels.sum(0)
    strange[predictions] = 0
    if strange.any():
        raise ValueError(
            f"a prediction holds {int(strange.argmax())}; allowed are 0 to {NUM_CLASSES - 1} and "
            f"{UNSCORED}: read label ids with from_label_ids"
        )
    sizes = pixels.sum(1)
    # Instances of caravans and trailers are not scored: they weigh nothing.
    weights = [AVERAGE_SIZES.get(one.name, 0.0) for one in labels]
    average = torch.tensor(weights, dtype=torch.float64)
    groups = _group_matrix()[[min(one.train_id, NUM_CLASSES) for one in labels]]  # (i, 10)
    found = pixels[:, predictions].double() @ _group_matrix()  # (i, 10)
    counts = torch.stack([found, sizes[:, None] - found], dim=-1)
    return (counts * (groups * (average / sizes)[:, None])[..., None]).sum(0)


def _iou(counts: ArrayLike | Tensor, confusion: Confusion) -> Tensor:
    weighted, pixels = torch.as_tensor(counts).double(), as_counts(confusion).double()
    num_rows, num_columns = pixels.shape[-2:]
    if num_rows != NUM_CLASSES or num_columns > NUM_CLASSES + len(UNSCORED):
        raise ValueError(
            f"iIoU is for the {NUM_CLASSES} Cityscapes classes and columns for {UNSCORED}; "
            f"this confusion is {tuple(pixels.shape)}"
        )
    if weighted.shape != (*pixels.shape[:-2], _NUM_GROUPS, 2):
        raise ValueError(
            f"instance counts {tuple(weighted.shape)} do not belong to a confusion "
            f"{tuple(pixels.shape)}; they should be {(*pixels.shape[:-2], _NUM_GROUPS, 2)}"
        )
    groups = _group_matrix().to(pixels.device)
    taken = pixels @ groups[:num_columns]  # (..., 19, 10)
    wrongly_taken = (taken * (1 - groups[:NUM_CLASSES])).sum(-2)
    return weighted[..., 0] / (weighted.sum(-1) + wrongly_taken.to(weighted.device))


def _to_numpy(values: ArrayLike | Tensor) -> NDArray[np.integer]:
    return values.cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def _check_range(name: str, ids: NDArray[np.integer], end: int) -> None:
    if ids.size:
        for extreme in (ids.min(), ids.max()):
            if not 0 <= extreme < end:
                raise ValueError(f"{extreme} is not {name}; allowed are 0 to {end - 1}")


@cache
def _group_matrix() -> Tensor:
    """(21, 10) float64: 1 where one of 19 classes or UNSCORED is taken for a class or category."""
    rows = [
        [one == label for one in INSTANCE_CLASSES]
        + [label.category == name for name in INSTANCE_CATEGORIES]
        for label in CLASSES
    ]
    nothing = [False] * _NUM_GROUPS
    vehicle = [False] * len(INSTANCE_CLASSES) + [name == "vehicle" for name in INSTANCE_CATEGORIES]
    return torch.tensor([*rows, nothing, vehicle], dtype=torch.float64)
