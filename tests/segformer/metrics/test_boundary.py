import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from segformer.cityscapes import IGNORE
from segformer.metrics.boundary import boundary_counts, boundary_iou, scaled_distance
from segformer.metrics.confusion import class_iou, confusion_matrix


def random_maps(seed: int, size: tuple[int, int] = (24, 37)) -> tuple[Tensor, Tensor]:
    """A prediction and a label (1, h, w) of blobs of classes 0..3, with void and other edges."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=(5, *size)), (0, 3, 3))
    target = noise.argmax(0)
    predicted = (noise[:4] + 0.2 * ndimage.gaussian_filter(noise[:4], (0, 1, 1))).argmax(0)
    predicted = np.where(rng.random(size) < 0.02, rng.integers(0, 4, size), predicted)
    target = np.where(target == 4, IGNORE, target)
    return torch.from_numpy(predicted)[None], torch.from_numpy(target)[None]


def reference_counts(predicted: Tensor, target: Tensor, distance: int) -> np.ndarray:
    """The definition, (4, 2): the masks of each class, eroded by SciPy."""
    counts = []
    for number in range(4):
        edges = []
        for classes in (predicted[0].numpy(), target[0].numpy()):
            mask = (classes == number) & (target[0].numpy() != IGNORE)
            square = np.ones((3, 3))
            edges.append(mask & ~ndimage.binary_erosion(mask, square, iterations=distance))
        counts.append([(edges[0] & edges[1]).sum(), (edges[0] | edges[1]).sum()])
    return np.array(counts)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("distance", [1, 2, 3, 5, 8])
def test_counts_equal_eroded_masks(seed: int, distance: int) -> None:
    """The counts equal those of SciPy's erosion of every mask, at any distance."""
    predicted, target = random_maps(seed)
    counts = boundary_counts(predicted, target, 4, distance=distance)
    assert torch.int64 == counts.dtype
    np.testing.assert_array_equal(reference_counts(predicted, target, distance), counts)


def test_boundary_counts_by_hand() -> None:
    """A missed 3 x 3 square loses its ring of 8; the 16 pixels at the image border agree."""
    target = torch.zeros(1, 5, 5, dtype=torch.uint8)
    target[:, 1:4, 1:4] = 1
    counts = boundary_counts(torch.zeros_like(target), target, 3)
    assert [[16, 16], [0, 8], [0, 0]] == counts.tolist()
    np.testing.assert_array_equal([1, 0, np.nan], boundary_iou(counts))


def test_default_distance_at_full_size() -> None:
    """By default the interior of 1024 x 1024 is 1018 x 1018."""
    target = torch.zeros(1, 1024, 2048, dtype=torch.uint8)
    target[..., 1024:] = 1
    expected = 1024**2 - 1018**2
    assert [[expected] * 2] * 2 == boundary_counts(target, target, 2).tolist()


@pytest.mark.parametrize(("rows", "pixels"), [(1024, 3), (512, 2), (2048, 6), (256, 1), (16, 1)])
def test_distance_scales_with_the_rows(rows: int, pixels: int) -> None:
    """Three pixels at 1024 rows, in proportion at others, at least one."""
    assert pixels == scaled_distance(rows)


def test_wide_boundaries_give_the_iou() -> None:
    """If the boundary covers the masks, boundary IoU is IoU, as the paper says."""
    predicted, target = random_maps(5)
    expected = class_iou(confusion_matrix(predicted, target, 4))
    counts = boundary_counts(predicted, target, 4, distance=37)
    torch.testing.assert_close(expected, boundary_iou(counts), rtol=0, atol=0)


def test_edge_errors_matter_more_than_in_iou() -> None:
    """An edge off by one pixel barely changes the IoU of a large object, but its boundary IoU."""
    target = torch.zeros(1, 64, 64, dtype=torch.long)
    target[..., 32:] = 1
    predicted = target.roll(1, dims=-1)
    predicted[..., 0] = 0
    iou = class_iou(confusion_matrix(predicted, target, 2))
    assert (boundary_iou(boundary_counts(predicted, target, 2)) < iou - 0.1).all()


def test_predictions_at_void_do_not_count() -> None:
    """Predictions at void change neither the counts there nor those beside it."""
    predicted, target = random_maps(6)
    expected = boundary_counts(predicted, target, 4)
    for other in (0, 3, IGNORE, 77):
        changed = predicted.where(target != IGNORE, other)
        assert torch.equal(expected, boundary_counts(changed, target, 4))


def test_perfect_prediction_scores_one() -> None:
    """Every class that occurs, beside void or not."""
    _, target = random_maps(7)
    assert [1.0] * 4 == boundary_iou(boundary_counts(target, target, 4)).tolist()


def test_ignore_predicted_at_labeled_pixels_is_a_miss() -> None:
    """IGNORE at labeled pixels is in no predicted mask."""
    target = torch.zeros(1, 4, 4, dtype=torch.uint8)
    counts = boundary_counts(torch.full_like(target, IGNORE), target, 1)
    assert [[0, 12]] == counts.tolist()


def test_counts_of_a_batch_are_the_sum_of_its_frames() -> None:
    """No boundary extends from frame to frame."""
    maps = [random_maps(seed) for seed in range(3)]
    batch = (torch.cat(tensors) for tensors in zip(*maps, strict=True))
    expected = sum(boundary_counts(*frame, 4) for frame in maps)
    assert torch.equal(expected, boundary_counts(*batch, 4))


def test_uint8_and_int64_give_equal_counts() -> None:
    """Labels as stored on disk give the same counts."""
    predicted, target = random_maps(8)
    expected = boundary_counts(predicted, target, 4)
    assert torch.equal(expected, boundary_counts(predicted.byte(), target.byte(), 4))


@pytest.mark.parametrize(
    ("predicted", "target", "distance", "message"),
    [
        ([[[2]]], [[[0]]], 1, "a prediction contains the class 2; allowed are 0 to 1 and 255"),
        ([[[0]]], [[[-1]]], 1, "a label contains the class -1"),
        ([[[0, 0]]], [[[0]]], 1, "resize the scores to the label's size"),
        ([[0]], [[0]], 1, r"the same shape \(b, h, w\)"),
        ([[[0]]], [[[0]]], 0, "it must be at least 1 pixel"),
    ],
)
def test_invalid_maps_are_refused(
    predicted: list, target: list, distance: int, message: str
) -> None:
    """They would be counted as other classes."""
    with pytest.raises(ValueError, match=message):
        boundary_counts(torch.tensor(predicted), torch.tensor(target), 2, distance=distance)
