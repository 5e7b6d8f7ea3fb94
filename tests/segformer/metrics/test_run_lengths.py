import numpy as np
import pytest
import torch

from segformer.cityscapes import train_id_table
from segformer.metrics.confusion import confusion_matrix
from segformer.metrics.instances import UNSCORED, count_instances, from_label_ids
from segformer.metrics.run_lengths import count_label_ids


def random_maps(seed: int, size: tuple[int, int] = (13, 21)) -> tuple[np.ndarray, np.ndarray]:
    """(h, w) predicted label ids and instance ids: short runs, every label, some with instances."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(rng.integers(0, 34, size), 3, axis=1)
    single = (labels >= 24) & (np.repeat(rng.random(size), 3, axis=1) < 0.7)
    instances = np.where(single, labels * 1000 + rng.integers(0, 3, labels.shape), labels)
    predicted = np.where(rng.random(labels.shape) < 0.3, rng.integers(0, 34, labels.shape), labels)
    return predicted.astype(np.uint8), instances.astype(np.uint16)


@pytest.mark.parametrize("seed", range(3))
def test_run_counts_equal_pixel_counts(seed: int) -> None:
    """Confusion matrix and instance counts equal those of the functions on pixels."""
    predicted, instances = random_maps(seed)
    labels = np.where(instances < 1000, instances, instances // 1000)
    classes, target = from_label_ids(predicted), torch.from_numpy(train_id_table()[labels])
    expected = confusion_matrix(classes, target, 19, unscored=UNSCORED)
    confusion, weighted = count_label_ids(predicted, instances)
    assert torch.equal(expected, confusion)
    assert torch.equal(count_instances(classes, instances), weighted)


def test_frame_of_a_single_run() -> None:
    """All road, all predicted: a run up to the last pixel is counted."""
    road = np.full((4, 6), 7)
    confusion, weighted = count_label_ids(road.astype(np.uint8), road.astype(np.uint16))
    assert 24 == confusion[0, 0] == confusion.sum()
    assert 0 == weighted.sum()


def test_invalid_maps_are_refused() -> None:
    """Other shapes, and ids of no label, in prediction or truth."""
    road = np.full((4, 6), 7, dtype=np.uint8)
    with pytest.raises(ValueError, match="predict at the label's size"):
        count_label_ids(road, road[:3].astype(np.uint16))
    with pytest.raises(ValueError, match="34 is not a predicted label id"):
        count_label_ids(np.full_like(road, 34), road.astype(np.uint16))
    with pytest.raises(ValueError, match="34000 is not an instance id"):
        count_label_ids(road, np.full((4, 6), 34000, dtype=np.uint16))
    with pytest.raises(ValueError, match="which has no instances"):
        count_label_ids(road, np.full((4, 6), 7001, dtype=np.uint16))
