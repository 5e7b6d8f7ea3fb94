"""The official iIoU: intersection over union in which small and large instances count alike.

A pixel of an instance, true positive or false negative, has as weight the average instance size of
its class over the size of its instance; false positives have weight 1. Defined on the benchmark
page of Cityscapes and in its script `evalPixelLevelSemanticLabeling`.
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
"""Average pixels of an instance at 1024x2048, from the official script (`avgClassSize`)."""

INSTANCE_CLASSES: tuple[Label, ...] = tuple(label for label in CLASSES if label.has_instances)
"""The eight scored classes with instances, in train id order."""

INSTANCE_CATEGORIES: tuple[str, ...] = tuple(
    name
    for name in CATEGORIES
    if all(label.has_instances for label in LABELS if label.category == name)
)
"""The two categories whose labels all have instances: human and vehicle."""

UNSCORED_VEHICLE = 254
"""The id of caravan and trailer in the result of `from_label_ids`.

They are not scored, but the official script counts them as vehicles in the iIoU of that category.
"""

UNSCORED: tuple[int, ...] = (IGNORE, UNSCORED_VEHICLE)
"""The ids other than the 19 classes in the result of `from_label_ids`; for `confusion_matrix`."""

IDS_PER_LABEL = 1000
"""An instance id is label id * 1000 + n; an id below 1000 is a label id."""

_NUM_GROUPS = len(INSTANCE_CLASSES) + len(INSTANCE_CATEGORIES)


def from_label_ids(label_ids: ArrayLike) -> Tensor:
    """Convert a prediction in label ids, the format of the test server, for the scores here.

    Args:
        label_ids: any shape, integers 0..33.

    Returns:
        The same shape, uint8: 0..18 for the scored classes, else one of UNSCORED.

    Raises:
        ValueError: for an id that is no label id.
    """
    ids = np.asarray(label_ids)
    _check_range("a predicted label id", ids, len(LABELS))
    values = [
        UNSCORED_VEHICLE
        if label.train_id == IGNORE and label.category in INSTANCE_CATEGORIES
        else label.train_id
        for label in LABELS
    ]
    return torch.from_numpy(np.take(np.array(values, dtype=np.uint8), ids))


def count_instances(predicted: ArrayLike | Tensor, instance_ids: ArrayLike | Tensor) -> Tensor:
    """Count the weighted true positives and false negatives of the instances in one frame.

    Args:
        predicted: (h, w) integers: train ids, or the result of `from_label_ids`.
        instance_ids: (h, w) integers of an instanceIds PNG: label id * 1000 + n, or a label id
            below 1000 where instances are not separated; those are not counted.

    Returns:
        (10, 2) float64 on the CPU; rows are INSTANCE_CLASSES, then INSTANCE_CATEGORIES; columns are
        true positives and false negatives, in pixels of an average instance. A set of frames is
        scored by the sum of its counts.

    Raises:
        ValueError: for other shapes, or an id out of range.
    """
    classes, instances = _to_numpy(predicted), _to_numpy(instance_ids)
    if instances.ndim != 2 or instances.shape != classes.shape:
        raise ValueError(
            f"prediction {classes.shape} and instance ids {instances.shape} must be (h, w) of one "
            "frame: instance ids are unique within a frame only"
        )
    positions = np.flatnonzero(instances >= IDS_PER_LABEL)
    ids, predictions = (
        values.ravel()[positions].astype(np.int64) for values in (instances, classes)
    )
    _check_range("an instance id", ids, len(LABELS) * IDS_PER_LABEL)
    _check_range("a predicted class", predictions, 256)
    sizes = np.bincount(ids, minlength=len(LABELS) * IDS_PER_LABEL)
    rank = np.cumsum(sizes > 0) - 1  # position of an id among the i present ones
    present = np.flatnonzero(sizes)
    pixels = np.bincount(rank[ids] * 256 + predictions, minlength=len(present) * 256)
    return weight_instances(present.tolist(), torch.from_numpy(pixels.reshape(-1, 256)))


def instance_iou(counts: ArrayLike | Tensor, confusion: Confusion) -> Tensor:
    """Return the iIoU of INSTANCE_CLASSES: weighted TP / (weighted TP + weighted FN + FP).

    Args:
        counts: (..., 10, 2) from `count_instances`, summed over frames.
        confusion: (..., 19, 19 + e) of the same frames, counted with the first e of UNSCORED.

    Returns:
        (..., 8) float64, 0..1; nan for a class that has no instances and is never predicted.

    Raises:
        ValueError: for other shapes.
    """
    return _iou(counts, confusion)[..., : len(INSTANCE_CLASSES)]


def category_instance_iou(counts: ArrayLike | Tensor, confusion: Confusion) -> Tensor:
    """Return the iIoU of INSTANCE_CATEGORIES, as `instance_iou` does for classes: (..., 2) float64.

    A pixel is a true positive if any class of its category is predicted; its weight is that of its
    own class.
    """
    return _iou(counts, confusion)[..., len(INSTANCE_CLASSES) :]


def weight_instances(instance_ids: list[int], pixels: Tensor) -> Tensor:
    """Return the counts of `count_instances`, from pixels counted by instance and predicted id.

    Args:
        instance_ids: i ids, label id * 1000 + n.
        pixels: (i, 256) pixels of each instance predicted as each id.

    Returns:
        (10, 2) float64.

    Raises:
        ValueError: for an instance id of a class without instances, or an invalid predicted id.
    """
    labels = [LABELS[number // IDS_PER_LABEL] for number in instance_ids]
    for label in labels:
        if label.train_id != IGNORE and label not in INSTANCE_CLASSES:
            raise ValueError(f"an instance id of the class {label.name!r}, which has no instances")
    valid = [*range(NUM_CLASSES), *UNSCORED]
    invalid = pixels.sum(0)
    invalid[valid] = 0
    if invalid.any():
        raise ValueError(
            f"a prediction contains {int(invalid.argmax())}; allowed are 0 to {NUM_CLASSES - 1} "
            f"and {UNSCORED}: convert label ids with from_label_ids"
        )
    sizes = pixels.sum(1)
    # Instances of caravans and trailers are not scored: their weight is 0.
    average_sizes = [AVERAGE_SIZES.get(label.name, 0.0) for label in labels]
    average = torch.tensor(average_sizes, dtype=torch.float64)
    groups = _group_matrix()[[min(label.train_id, NUM_CLASSES) for label in labels]]  # (i, 10)
    hits = pixels[:, valid].double() @ _group_matrix()  # (i, 10)
    counts = torch.stack([hits, sizes[:, None] - hits], dim=-1)
    return (counts * (groups * (average / sizes)[:, None])[..., None]).sum(0)


def _iou(counts: ArrayLike | Tensor, confusion: Confusion) -> Tensor:
    weighted, pixels = torch.as_tensor(counts).double(), as_counts(confusion).double()
    num_rows, num_columns = pixels.shape[-2:]
    if num_rows != NUM_CLASSES or num_columns > NUM_CLASSES + len(UNSCORED):
        raise ValueError(
            f"iIoU is defined for the {NUM_CLASSES} Cityscapes classes and columns for {UNSCORED}; "
            f"this confusion matrix is {tuple(pixels.shape)}"
        )
    if weighted.shape != (*pixels.shape[:-2], _NUM_GROUPS, 2):
        raise ValueError(
            f"instance counts {tuple(weighted.shape)} do not match a confusion matrix "
            f"{tuple(pixels.shape)}; expected {(*pixels.shape[:-2], _NUM_GROUPS, 2)}"
        )
    groups = _group_matrix().to(pixels.device)
    predicted = pixels @ groups[:num_columns]  # (..., 19, 10)
    false_positives = (predicted * (1 - groups[:NUM_CLASSES])).sum(-2)
    return weighted[..., 0] / (weighted.sum(-1) + false_positives.to(weighted.device))


def _to_numpy(values: ArrayLike | Tensor) -> NDArray[np.integer]:
    return values.cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def _check_range(name: str, ids: NDArray[np.integer], end: int) -> None:
    if ids.size:
        for extreme in (ids.min(), ids.max()):
            if not 0 <= extreme < end:
                raise ValueError(f"{extreme} is not {name}; allowed are 0 to {end - 1}")


@cache
def _group_matrix() -> Tensor:
    """(21, 10) float64: 1 where one of the 19 classes or UNSCORED counts as a class or category."""
    rows = [
        [instance_class == label for instance_class in INSTANCE_CLASSES]
        + [label.category == name for name in INSTANCE_CATEGORIES]
        for label in CLASSES
    ]
    void = [False] * _NUM_GROUPS
    vehicle = [False] * len(INSTANCE_CLASSES) + [name == "vehicle" for name in INSTANCE_CATEGORIES]
    return torch.tensor([*rows, void, vehicle], dtype=torch.float64)
