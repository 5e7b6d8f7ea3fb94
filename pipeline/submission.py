"""A prediction as the official script and the test server read it: its name, and its PNG."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.pictures import encode
from segformer.cityscapes import CLASSES, NUM_CLASSES

_LABEL_ID_BY_TRAIN_ID = np.array([label.label_id for label in CLASSES], dtype=np.uint8)


def prediction_file_name(key: str) -> str:
    """`berlin_000000_000019_pred_labelIds.png`, of the frame `test/berlin/berlin_000000_000019`.

    The official script finds a prediction by the beginning of its name.
    """
    return f"{key.rpartition('/')[2]}_pred_labelIds.png"


def encode_label_ids(train_ids: NDArray[np.uint8]) -> bytes:
    """(h, w) uint8 train ids, 0..18 -> an 8 bit grey PNG of label ids, 7..33.

    Raises:
        ValueError: for another id.
    """
    if train_ids.size and train_ids.max() >= NUM_CLASSES:
        raise ValueError(
            f"a prediction holds the class {train_ids.max()}; allowed are 0 to {NUM_CLASSES - 1}"
        )
    return encode(Image.fromarray(_LABEL_ID_BY_TRAIN_ID[train_ids]))
