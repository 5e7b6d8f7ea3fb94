"""The Cityscapes label table: ids, train ids, categories, colors, instances.

Source: the data set's paper (arXiv:1604.01685) and the table published with its official scripts.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TRAIN_EXTRA = "train_extra"
"""The split of 19,998 frames with coarse labels; also the folder for its packages."""

IGNORE = 255
"""The train id of void pixels, which are neither trained on nor scored."""


@dataclass(frozen=True)
class Label:
    """One row of the official table.

    `train_id` is 0..18 for the scored classes and IGNORE for the rest; `color` is RGB, 0..255.
    """

    name: str
    label_id: int
    train_id: int
    category: str
    has_instances: bool
    color: tuple[int, int, int]


LABELS: tuple[Label, ...] = (
    Label("unlabeled", 0, IGNORE, "void", False, (0, 0, 0)),
    Label("ego vehicle", 1, IGNORE, "void", False, (0, 0, 0)),
    Label("rectification border", 2, IGNORE, "void", False, (0, 0, 0)),
    Label("out of roi", 3, IGNORE, "void", False, (0, 0, 0)),
    Label("static", 4, IGNORE, "void", False, (0, 0, 0)),
    Label("dynamic", 5, IGNORE, "void", False, (111, 74, 0)),
    Label("ground", 6, IGNORE, "void", False, (81, 0, 81)),
    Label("road", 7, 0, "flat", False, (128, 64, 128)),
    Label("sidewalk", 8, 1, "flat", False, (244, 35, 232)),
    Label("parking", 9, IGNORE, "flat", False, (250, 170, 160)),
    Label("rail track", 10, IGNORE, "flat", False, (230, 150, 140)),
    Label("building", 11, 2, "construction", False, (70, 70, 70)),
    Label("wall", 12, 3, "construction", False, (102, 102, 156)),
    Label("fence", 13, 4, "construction", False, (190, 153, 153)),
    Label("guard rail", 14, IGNORE, "construction", False, (180, 165, 180)),
    Label("bridge", 15, IGNORE, "construction", False, (150, 100, 100)),
    Label("tunnel", 16, IGNORE, "construction", False, (150, 120, 90)),
    Label("pole", 17, 5, "object", False, (153, 153, 153)),
    Label("polegroup", 18, IGNORE, "object", False, (153, 153, 153)),
    Label("traffic light", 19, 6, "object", False, (250, 170, 30)),
    Label("traffic sign", 20, 7, "object", False, (220, 220, 0)),
    Label("vegetation", 21, 8, "nature", False, (107, 142, 35)),
    Label("terrain", 22, 9, "nature", False, (152, 251, 152)),
    Label("sky", 23, 10, "sky", False, (70, 130, 180)),
    Label("person", 24, 11, "human", True, (220, 20, 60)),
    Label("rider", 25, 12, "human", True, (255, 0, 0)),
    Label("car", 26, 13, "vehicle", True, (0, 0, 142)),
    Label("truck", 27, 14, "vehicle", True, (0, 0, 70)),
    Label("bus", 28, 15, "vehicle", True, (0, 60, 100)),
    Label("caravan", 29, IGNORE, "vehicle", True, (0, 0, 90)),
    Label("trailer", 30, IGNORE, "vehicle", True, (0, 0, 110)),
    Label("train", 31, 16, "vehicle", True, (0, 80, 100)),
    Label("motorcycle", 32, 17, "vehicle", True, (0, 0, 230)),
    Label("bicycle", 33, 18, "vehicle", True, (119, 11, 32)),
)
"""All label ids in order, so that `LABELS[i].label_id == i`."""

CLASSES: tuple[Label, ...] = tuple(
    sorted(
        (label for label in LABELS if label.train_id != IGNORE), key=lambda label: label.train_id
    )
)
"""The 19 scored classes in train-id order."""

CLASS_NAMES: tuple[str, ...] = tuple(label.name for label in CLASSES)

NUM_CLASSES = len(CLASSES)


def train_id_table() -> NDArray[np.uint8]:
    """(256,) uint8: the train id of every byte in a labelIds PNG; IGNORE where none is defined."""
    table = np.full(256, IGNORE, dtype=np.uint8)
    for label in LABELS:
        table[label.label_id] = label.train_id
    return table


def palette() -> NDArray[np.uint8]:
    """(256, 3) uint8 RGB: the official color of every train id; black for all others."""
    colors = np.zeros((256, 3), dtype=np.uint8)
    for label in CLASSES:
        colors[label.train_id] = label.color
    return colors
