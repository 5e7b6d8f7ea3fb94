from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.synthetic import draw_frame
from segformer.cityscapes import CLASSES, LABELS, train_id_table
from segformer.metrics.confusion import (
    CATEGORIES,
    category_iou,
    class_iou,
    confusion_matrix,
    mean_iou,
)
from segformer.metrics.instances import (
    AVERAGE_SIZES,
    INSTANCE_CATEGORIES,
    INSTANCE_CLASSES,
    UNSCORED,
    UNSCORED_VEHICLE,
    category_instance_iou,
    count_instances,
    from_label_ids,
    instance_iou,
)
from tests.reference.official_script import OfficialFrame, load_official_script, run_official_script


def random_frame(rng: np.random.Generator, *, size: tuple[int, int] = (12, 20)) -> OfficialFrame:
    """Blocks of some of the 34 labels, some of them instances; predictions partly correct."""
    rows, columns = size
    ids = rng.choice(34, rng.integers(4, 20), replace=False)
    labels = np.kron(rng.choice(ids, (rows // 2, columns // 2)), np.ones((2, 2), int))
    numbers = np.kron(rng.integers(0, 3, (rows // 4, columns // 4)), np.ones((4, 4), int))
    has_instances = np.array([label.has_instances for label in LABELS])[labels]
    is_single = has_instances & (rng.random(size) < 0.9)  # the rest: groups, no single instance
    instances = np.where(is_single, labels * 1000 + numbers, labels)
    predicted = np.where(rng.random(size) < 0.5, labels, rng.choice(34, size))
    return OfficialFrame(
        predicted.astype(np.uint8), labels.astype(np.uint8), instances.astype(np.uint16)
    )


def drawn_frame(rng: np.random.Generator) -> OfficialFrame:
    """A synthetic street with a prediction that is shifted, with missing and wrong classes."""
    street = draw_frame(rng, (64, 128))
    predicted = np.roll(street.label_ids, (1, 2), axis=(0, 1))
    predicted[predicted == rng.choice(34)] = 7
    for _ in range(6):
        top, left = rng.integers(0, 56), rng.integers(0, 112)
        predicted[top : top + 8, left : left + 16] = rng.choice(34)
    return OfficialFrame(predicted, street.label_ids, street.instance_ids)


def our_counts(frames: Sequence[OfficialFrame]) -> tuple[Tensor, Tensor]:
    """Counts of instances and confusion, summed over frames."""
    counts, confusion = torch.zeros(10, 2).double(), torch.zeros(19, 21).long()
    for frame in frames:
        predicted = from_label_ids(frame.predicted)
        target = torch.from_numpy(train_id_table()[frame.label_ids])
        counts += count_instances(predicted, frame.instance_ids)
        confusion += confusion_matrix(predicted, target, 19, unscored=UNSCORED)
    return counts, confusion


def assert_equal_to_script(folder: Path, frames: Sequence[OfficialFrame]) -> None:
    """All four kinds of scores and their averages equal the script's, including nan."""
    expected = run_official_script(folder, frames)
    counts, confusion = our_counts(frames)
    names, instance_names = [c.name for c in CLASSES], [c.name for c in INSTANCE_CLASSES]
    for kind, keys, ours in (
        ("classScores", names, class_iou(confusion)),
        ("categoryScores", CATEGORIES, category_iou(confusion)),
        ("classInstScores", instance_names, instance_iou(counts, confusion)),
        ("categoryInstScores", INSTANCE_CATEGORIES, category_instance_iou(counts, confusion)),
    ):
        scores = [expected[kind][key] for key in keys]
        np.testing.assert_allclose(ours, scores, rtol=0, atol=1e-12, err_msg=kind)
        others = set(expected[kind]) - set(keys)
        assert all(np.isnan(expected[kind][key]) for key in others), kind
    for kind, average in (
        ("averageScoreClasses", mean_iou(confusion)),
        ("averageScoreCategories", category_iou(confusion).nanmean()),
        ("averageScoreInstClasses", instance_iou(counts, confusion).nanmean()),
        ("averageScoreInstCategories", category_instance_iou(counts, confusion).nanmean()),
    ):
        np.testing.assert_allclose(average, expected[kind], rtol=0, atol=1e-12, err_msg=kind)


@pytest.mark.parametrize("seed", range(8))
def test_random_predictions_equal_the_script(tmp_path: Path, seed: int) -> None:
    """Absent classes, groups, all 34 ids predicted anywhere; one to three frames."""
    rng = np.random.default_rng(seed)
    assert_equal_to_script(tmp_path, [random_frame(rng) for _ in range(1 + seed % 3)])


@pytest.mark.parametrize("seed", range(3))
def test_synthetic_streets_equal_the_script(tmp_path: Path, seed: int) -> None:
    """Two frames of the synthetic set with corrupted predictions."""
    rng = np.random.default_rng(seed)
    frames = [drawn_frame(rng), drawn_frame(rng)]
    assert len(np.unique(frames[0].instance_ids[frames[0].instance_ids > 1000])) > 1
    assert_equal_to_script(tmp_path, frames)


def test_perfect_prediction_scores_one(tmp_path: Path) -> None:
    """Exactly 1 for every class of a synthetic street that has an instance."""
    street = draw_frame(np.random.default_rng(1), (64, 128))
    frames = [OfficialFrame(street.label_ids, street.label_ids, street.instance_ids)]
    iou = instance_iou(*our_counts(frames))
    assert {1.0} == set(iou[~iou.isnan()].tolist())
    assert_equal_to_script(tmp_path, frames)


def test_scores_without_instances_are_nan(tmp_path: Path) -> None:
    """A street without people and vehicles: nan, and so is the mean."""
    empty = np.full((8, 8), 7)
    frames = [
        OfficialFrame(empty.astype(np.uint8), empty.astype(np.uint8), empty.astype(np.uint16))
    ]
    assert bool(instance_iou(*our_counts(frames)).isnan().all())
    assert_equal_to_script(tmp_path, frames)


def test_average_sizes_are_the_official_ones() -> None:
    """For the scored classes, to the last digit."""
    official = load_official_script().args.avgClassSize
    assert {label.name: official[label.name] for label in INSTANCE_CLASSES} == AVERAGE_SIZES


def test_small_and_large_instances_count_alike() -> None:
    """A person of 9 pixels is found and one of 1 is not: 1/2, where IoU is 9/10."""
    instances = np.array([[24000] * 9 + [24001]])
    predicted = np.array([[11] * 9 + [0]])
    confusion = confusion_matrix(torch.tensor(predicted), torch.full((1, 10), 11), 19)
    counts = count_instances(predicted, instances)
    size = AVERAGE_SIZES["person"]
    np.testing.assert_allclose([size, size], counts[0])
    assert 0.9 == float(class_iou(confusion)[11])
    assert 0.5 == float(instance_iou(counts, confusion)[0])


def test_rider_predicted_as_person_counts_as_human() -> None:
    """It is a true positive of the category, not of the class."""
    counts = count_instances([[11, 11]], [[25000, 25000]])
    size = AVERAGE_SIZES["rider"]
    assert [[0.0, size], [size, 0.0]] == counts[[1, 8]].tolist()


def test_groups_are_not_counted() -> None:
    """Ids below 1000 and instances of unscored labels count as nothing."""
    assert 0 == float(count_instances([[11, 0, 13, 0]], [[24, 24, 29000, 30001]]).sum())


def test_false_positives_have_weight_one() -> None:
    """Three pixels of road predicted as car, and a car predicted completely."""
    size = AVERAGE_SIZES["car"]
    confusion = torch.zeros(19, 19)
    confusion[13, 13], confusion[0, 13] = 5, 3
    counts = count_instances([[13] * 5], [[26001] * 5])
    assert size / (size + 3) == pytest.approx(float(instance_iou(counts, confusion)[2]), abs=1e-12)


def test_columns_of_unscored_ids_are_optional() -> None:
    """A network that predicts only classes needs no other columns."""
    rng = np.random.default_rng(3)
    counts, confusion = torch.rand(10, 2).double(), rng.integers(0, 99, (19, 21))
    confusion[:, 19:] = 0
    for score in (instance_iou, category_instance_iou):
        expected = score(counts, confusion)
        assert torch.equal(expected, score(counts, confusion[:, :20]))
        assert torch.equal(expected, score(counts, confusion[:, :19]))


def test_stacked_counts() -> None:
    """A stack of counts and confusion matrices scores like its parts."""
    generator = torch.Generator().manual_seed(0)
    counts = torch.rand(3, 10, 2, generator=generator).double()
    confusions = torch.randint(0, 99, (3, 19, 19), generator=generator)
    for score in (instance_iou, category_instance_iou):
        expected = torch.stack([score(*part) for part in zip(counts, confusions, strict=True)])
        torch.testing.assert_close(expected, score(counts.numpy(), confusions.numpy()))


def test_any_integer_type_is_accepted() -> None:
    """Arrays from Pillow and tensors of any integer type give the same counts."""
    frame = random_frame(np.random.default_rng(0))
    frame.instance_ids.setflags(write=False)  # as arrays of pictures are: no warning for it
    frame.predicted.setflags(write=False)
    predicted = from_label_ids(frame.predicted)
    expected = count_instances(predicted.numpy(), frame.instance_ids)
    ids = torch.from_numpy(frame.instance_ids.astype(np.int64))
    assert torch.equal(expected, count_instances(predicted.long(), ids))
    assert torch.equal(expected, count_instances(predicted, ids.int()))


def test_label_ids_are_converted_by_the_official_table() -> None:
    """19 train ids; caravan and trailer as unscored vehicles; all others ignored."""
    expected = train_id_table()[:34].copy()
    expected[[29, 30]] = UNSCORED_VEHICLE
    np.testing.assert_array_equal(expected, from_label_ids(np.arange(34)))


@pytest.mark.parametrize(
    ("predicted", "instances", "message"),
    [
        ([[19]], [[24000]], "a prediction contains 19; allowed are 0 to 18"),
        ([[-1]], [[24000]], "-1 is not a predicted class; allowed are 0 to 255"),
        ([[0]], [[34000]], "34000 is not an instance id; allowed are 0 to 33999"),
        ([[0]], [[7001]], "'road', which has no instances"),
        ([[0, 0]], [[24000]], "must be \\(h, w\\) of one frame"),
        ([[[0]]], [[[24000]]], "instance ids are unique within a frame only"),
    ],
)
def test_invalid_ids_and_shapes_are_refused(predicted: list, instances: list, message: str) -> None:
    """They would be counted as other classes."""
    with pytest.raises(ValueError, match=message):
        count_instances(predicted, instances)


def test_unknown_label_ids_are_refused() -> None:
    """Such as 255, which the official script cannot count either."""
    with pytest.raises(ValueError, match="255 is not a predicted label id; allowed are 0 to 33"):
        from_label_ids([[255]])


@pytest.mark.parametrize(
    ("counts", "confusion", "message"),
    [
        ((10, 2), (18, 18), "iIoU is defined for the 19 Cityscapes classes"),
        ((10, 2), (19, 22), "iIoU is defined for the 19 Cityscapes classes"),
        ((8, 2), (19, 19), r"expected \(10, 2\)"),
        ((10, 2), (3, 19, 19), r"expected \(3, 10, 2\)"),
    ],
)
def test_counts_of_other_shapes_are_refused(
    counts: tuple[int, ...], confusion: tuple[int, ...], message: str
) -> None:
    """Counts and confusion matrix must match."""
    with pytest.raises(ValueError, match=message):
        instance_iou(torch.zeros(counts), torch.zeros(confusion))
