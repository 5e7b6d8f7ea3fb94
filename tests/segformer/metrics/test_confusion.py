from types import ModuleType

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from segformer.cityscapes import CLASSES, LABELS
from segformer.inference.segment import resize_scores
from segformer.metrics.confusion import (
    CATEGORIES,
    category_iou,
    class_iou,
    confusion_matrix,
    mean_iou,
    pixel_accuracy,
)
from tests.reference.official_script import load_official_script


@pytest.fixture(scope="module")
def official() -> ModuleType:
    """The official evaluation script, set to evaluate every label id."""
    script = load_official_script()
    script.args.evalLabels = [label.label_id for label in LABELS]
    return script


def random_confusion(seed: int) -> np.ndarray:
    """(34, 34) counts over label ids, of every pair."""
    rng = np.random.default_rng(seed)
    confusion = rng.integers(0, 10 ** rng.integers(1, 9), (34, 34))
    absent = rng.choice([label.label_id for label in CLASSES], 4, replace=False)
    confusion[absent] = 0
    confusion[:, absent[:2]] = 0  # two not even predicted: nan
    return confusion


def scored_part(confusion: np.ndarray) -> torch.Tensor:
    """(19, 20) counts in train id order, with a last column of unscored ids: our format."""
    ids = [label.label_id for label in CLASSES]
    rows = confusion[ids]
    unscored = np.delete(rows, ids, axis=1).sum(axis=1, keepdims=True)
    return torch.from_numpy(np.concatenate([rows[:, ids], unscored], axis=1))


@pytest.mark.parametrize("seed", range(5))
def test_class_iou_equals_the_official_script(official: ModuleType, seed: int) -> None:
    """Every class, with nan, with predicted ids that are ignored, and the mean."""
    confusion = random_confusion(seed)
    expected = {
        label.name: official.getIouScoreForLabel(label.label_id, confusion, official.args)
        for label in CLASSES
    }
    ours = scored_part(confusion)
    np.testing.assert_allclose(class_iou(ours), list(expected.values()), rtol=0, atol=1e-12)
    assert 2 == int(class_iou(ours).isnan().sum())
    average = official.getScoreAverage(expected, official.args)
    assert average == pytest.approx(mean_iou(ours).item(), abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_category_iou_equals_the_official_script(official: ModuleType, seed: int) -> None:
    """Every category with a scored class equals the result of the official function."""
    confusion = random_confusion(seed)
    expected = [
        official.getIouScoreForCategory(name, confusion, official.args) for name in CATEGORIES
    ]
    ours = category_iou(scored_part(confusion))
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-12)


def test_categories_are_the_official_ones(official: ModuleType) -> None:
    """All but void, none of whose labels is scored."""
    assert set(official.category2labels) - {"void"} == set(CATEGORIES)


def test_confusion_by_hand() -> None:
    """Rows are true classes, columns predicted ones; void is left out."""
    target = torch.tensor([[[0, 0, 1], [2, 255, 255]]])
    predicted = torch.tensor([[[0, 1, 1], [0, 2, 0]]])
    expected = torch.tensor([[1, 1, 0], [0, 1, 0], [1, 0, 0]])
    confusion = confusion_matrix(predicted, target, 3)
    assert torch.int64 == confusion.dtype
    assert torch.equal(expected, confusion)


def test_uint8_and_int64_give_equal_counts() -> None:
    """uint8 classes do not overflow when pairs are computed."""
    generator = torch.Generator().manual_seed(0)
    predicted, target = torch.randint(0, 19, (2, 1, 40, 40), generator=generator)
    expected = confusion_matrix(predicted, target, 19)
    assert torch.equal(expected, confusion_matrix(predicted.byte(), target.byte(), 19))
    assert 1600 == int(expected.sum())


def test_void_only_gives_nan_scores() -> None:
    """Every score of an empty confusion matrix is nan, not 0 and not an error."""
    nothing = confusion_matrix(torch.zeros(1, 2, 2).long(), torch.full((1, 2, 2), 255), 19)
    assert 0 == int(nothing.sum())
    for score in (class_iou(nothing), mean_iou(nothing), pixel_accuracy(nothing)):
        assert bool(score.isnan().all())


def test_predictions_at_void_do_not_count() -> None:
    """Not even an id that is no class."""
    target = torch.tensor([[[0, 255]]])
    assert torch.equal(
        confusion_matrix(torch.tensor([[[0, 1]]]), target, 2),
        confusion_matrix(torch.tensor([[[0, 255]]]), target, 2),
    )


def test_ignore_predicted_at_labeled_pixels_is_a_miss() -> None:
    """A pixel predicted as IGNORE is a false negative, and a false positive of no class."""
    target = torch.tensor([[[0, 0, 1, 1, 255]]])
    predicted = torch.tensor([[[0, 255, 1, 1, 255]]])
    confusion = confusion_matrix(predicted, target, 2, unscored=(255,))
    assert [[1, 0, 1], [0, 2, 0]] == confusion.tolist()
    assert [1 / 2, 1.0] == class_iou(confusion).tolist()
    assert 3 / 4 == float(pixel_accuracy(confusion))


def test_every_unscored_id_has_a_column() -> None:
    """In the given order."""
    target, predicted = torch.zeros(1, 1, 4), torch.tensor([[[0, 254, 255, 255]]])
    confusion = confusion_matrix(predicted, target.long(), 2, unscored=(255, 254))
    assert [[1, 0, 2, 1], [0, 0, 0, 0]] == confusion.tolist()


def test_iou_by_hand() -> None:
    """3 TP, 1 FN, 2 FP: 3/6; a class neither labeled nor predicted is nan."""
    confusion = torch.tensor([[3, 1, 0], [2, 4, 0], [0, 0, 0]])
    np.testing.assert_allclose([3 / 6, 4 / 7, np.nan], class_iou(confusion))
    assert (3 / 6 + 4 / 7) / 2 == pytest.approx(mean_iou(confusion).item())
    assert 7 / 10 == pytest.approx(pixel_accuracy(confusion).item())


def test_class_that_is_only_predicted_scores_zero() -> None:
    """Not nan: the official script counts its false positives in the mean."""
    assert [0.5, 0.0] == class_iou(torch.tensor([[1, 1], [0, 0]])).tolist()


def test_stacked_confusions() -> None:
    """A stack, of NumPy or torch, scores like its parts."""
    rng = np.random.default_rng(0)
    stack = rng.integers(0, 99, (4, 19, 20))
    for score in (class_iou, mean_iou, pixel_accuracy, category_iou):
        expected = torch.stack([score(torch.from_numpy(confusion)) for confusion in stack])
        assert torch.equal(expected, score(stack))


@pytest.mark.parametrize(
    ("predicted", "target", "message"),
    [
        ([[[19]]], [[[0]]], "a prediction contains the class 19; allowed are 0 to 18"),
        ([[[0]]], [[[20]]], "a label contains the class 20; allowed are 0 to 18, and 255 for void"),
        ([[[0]]], [[[-1]]], "a label contains the class -1"),
        ([[[256]]], [[[0]]], "a prediction contains the class 256"),
        ([[[255]]], [[[0]]], "a prediction contains the class 255; allowed are 0 to 18"),
        ([[[0, 0]]], [[[0]]], "differ in shape; resize the scores"),
    ],
)
def test_invalid_classes_and_shapes_are_refused(
    predicted: list[list[list[int]]], target: list[list[list[int]]], message: str
) -> None:
    """They would be counted as other classes."""
    with pytest.raises(ValueError, match=message):
        confusion_matrix(torch.tensor(predicted), torch.tensor(target), 19)


def test_categories_need_the_cityscapes_classes() -> None:
    """Categories are undefined for another number of classes."""
    with pytest.raises(ValueError, match="19 Cityscapes classes"):
        category_iou(torch.zeros(3, 3))


@pytest.mark.parametrize("shape", [(19,), (20, 19)])
def test_confusions_of_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    """A row for void would be scored as a class."""
    with pytest.raises(ValueError, match="at least as many columns; this one is"):
        class_iou(torch.zeros(shape))


def test_more_than_255_classes_are_refused() -> None:
    """Class 255 would be void."""
    with pytest.raises(ValueError, match="256 classes include 255, which is void"):
        confusion_matrix(torch.zeros(1, 1, 1), torch.zeros(1, 1, 1), 256)


def test_thin_pole_counts_at_the_size_of_the_label() -> None:
    """Every pixel of the label is scored, including those that a smaller label would lose.

    Hugging Face's example resizes labels for evaluation: there this prediction is perfect.
    """
    target = torch.zeros(1, 64, 128, dtype=torch.long)
    target[..., 77] = 1  # a pole one pixel wide, which the prediction misses
    scores = torch.zeros(1, 2, 16, 32)
    scores[:, 0] = 1
    confusion = confusion_matrix(resize_scores(scores, (64, 128)).argmax(1), target, 2)
    assert [[64 * 127, 0], [64, 0]] == confusion.tolist()
    assert 127 / 128 / 2 == float(mean_iou(confusion))
    resized = F.interpolate(target[None].float(), size=(16, 32))[0].long()
    mistaken = confusion_matrix(scores.argmax(1), resized, 2)
    assert 1.0 == float(mean_iou(mistaken))


def test_class_0_is_scored() -> None:
    """A prediction without any road scores 0 for road.

    Hugging Face's example ignores index 0: there this prediction is perfect.
    """
    target = torch.tensor([[[0, 0, 0, 1, 2, 255]]])
    predicted = torch.tensor([[[1, 1, 1, 1, 2, 0]]])
    confusion = confusion_matrix(predicted, target, 3)
    assert 5 == int(confusion.sum())
    np.testing.assert_allclose([0, 1 / 4, 1], class_iou(confusion))
    assert (0 + 1 / 4 + 1) / 3 == pytest.approx(float(mean_iou(confusion)))
    mistaken = confusion_matrix(predicted, target.where(target != 0, 255), 3)
    assert 1.0 == float(mean_iou(mistaken))


@pytest.mark.parametrize("unscored", [(1,), (255, 255), (256,), (-1,)])
def test_invalid_unscored_ids_are_refused(unscored: tuple[int, ...]) -> None:
    """A column for a scored class, or two for one id, would count pixels twice."""
    with pytest.raises(ValueError, match="give each id once, from 2 to 255"):
        confusion_matrix(torch.zeros(1, 1, 1), torch.zeros(1, 1, 1), 2, unscored=unscored)
