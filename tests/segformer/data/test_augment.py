import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from segformer.cityscapes import IGNORE
from segformer.data.augment import NUM_RANDOM, Augment, meets_class_share
from tests.reference import augment as augment_module
from tests.reference.crops import (
    H,
    W,
    augment_batch,
    augment_with,
    denormalize,
    make_augment,
    make_coordinate_frames,
)


def make_patches(seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """One noisy frame (1, 23, 31, 3) and labels in patches, mostly road and void."""
    generator = np.random.default_rng(seed)
    labels = generator.choice([0, 0, 0, 0, 5, 13, IGNORE], (6, 8)).repeat(4, 0).repeat(4, 1)
    image = generator.integers(0, 256, (1, 23, 31, 3), dtype=np.uint8)
    return image, labels[None, :23, :31].astype(np.uint8)


@pytest.mark.parametrize("seed", range(24))
def test_frame_equals_the_reference(seed: int) -> None:
    """Scale, crop, flip, colors and padding together equal a plain loop over pixels."""
    image, labels = make_patches(seed)
    augment = Augment((12, 17), max_class_share=0.5)
    random_numbers = np.random.default_rng(100 + seed).random(NUM_RANDOM)
    expected, expected_labels = augment_module.augment_frame(
        image[0], labels[0], random_numbers, augment
    )
    pixels, target = augment_with(augment, image, labels, [random_numbers])
    np.testing.assert_array_equal(expected_labels, target[0])
    np.testing.assert_allclose(expected, pixels[0].permute(1, 2, 0), atol=2e-5)


@pytest.mark.parametrize("factor", [0.5, 0.6, 1.0, 1.3, 2.0])
@pytest.mark.parametrize("flip", [False, True])
def test_image_and_label_are_aligned(factor: float, flip: bool) -> None:
    """The label of a pixel is that of the nearest source coordinate shown by the image."""
    images, rows, columns = make_coordinate_frames(6)
    augment = make_augment((24, 40), factor, flip=flip)
    pixels, row_labels = augment_batch(augment, images, rows)
    same, column_labels = augment_batch(augment, images, columns)

    assert torch.equal(pixels, same)
    inner = (slice(None), slice(3, -3), slice(3, -3))  # the antialiasing ends at the cut
    is_frame = (row_labels != IGNORE)[inner]
    for channel, labels in ((0, row_labels), (1, column_labels)):
        difference = (denormalize(pixels)[:, channel] - labels)[inner][is_frame]
        assert 0.5 + 1e-3 >= difference.abs().max()


def test_crop_at_scale_1_is_a_copy() -> None:
    """Every pixel of the crop is a pixel of the frame, with its own label."""
    images, rows, _ = make_coordinate_frames(3)
    pixels, labels = augment_batch(make_augment((10, 20), 1.0), images, rows)
    torch.testing.assert_close(labels.float(), denormalize(pixels)[:, 0], atol=1e-3, rtol=0)
    corners = {tuple(corner) for corner in denormalize(pixels)[:, :2, 0, 0].round().int().tolist()}
    assert 3 == len(corners)  # each frame is cut elsewhere


def test_frames_are_not_modified() -> None:
    """Packed frames are used again."""
    images, rows, _ = make_coordinate_frames(2)
    before = images.copy(), rows.copy()
    augment_batch(Augment((24, 40)), images, rows)
    np.testing.assert_array_equal(before[0], images)
    np.testing.assert_array_equal(before[1], rows)


def test_labels_get_no_new_class() -> None:
    """Labels of classes 0 and 18 never become a class between them."""
    images, _, _ = make_coordinate_frames(8)
    labels = 18 * np.random.default_rng(0).integers(0, 2, (8, H, W), dtype=np.uint8)
    _, target = augment_batch(Augment((24, 40)), images, labels)
    assert {0, 18, IGNORE} >= set(target.flatten().tolist())


def mostly_road(b: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Frames of road, with a strip of car at the right and void at the left."""
    images, _, _ = make_coordinate_frames(b)
    labels = np.zeros((b, H, W), np.uint8)
    labels[:, :, 80:] = 13
    labels[:, :, :20] = IGNORE
    return images, labels


def largest_share(target: Tensor) -> float:
    """The share of the labeled pixels of the most frequent class."""
    counts = target[target != IGNORE].bincount()
    return (counts.max() / counts.sum()).item()


def test_max_class_share_holds() -> None:
    """Without void, no crop has more than three quarters road; without the rule many have."""
    images, labels = mostly_road(64)
    # Every second place will do, so that ten tries fail once in a thousand frames.
    ruled = augment_batch(make_augment((20, 80), 1.0, max_class_share=0.75), images, labels, 1)[1]
    free = augment_batch(make_augment((20, 80), 1.0, max_class_share=1.0), images, labels, 1)[1]
    assert 0.75 >= max(largest_share(frame_labels) for frame_labels in ruled)
    assert 20 < sum(largest_share(frame_labels) > 0.75 for frame_labels in free)


def test_meets_class_share_equals_a_histogram() -> None:
    """The result does not depend on the classes counted first."""
    generator = np.random.default_rng(0)
    answers = []
    for max_class_share in [0.2, 0.3, 0.5, 0.75, 1.0] * 40:
        ids = [*generator.integers(0, 19, generator.integers(0, 7)), IGNORE]
        labels = generator.choice(ids, (9, 16)).astype(np.uint8)
        answers.append(augment_module.meets_class_share(labels.tolist(), max_class_share))
        assert answers[-1] == meets_class_share(labels, max_class_share)
    assert 50 < sum(answers) < 150


@pytest.mark.parametrize(("count", "expected"), [(75, True), (76, False)])
def test_max_class_share_is_inclusive(count: int, expected: bool) -> None:
    """Of a hundred labeled pixels, 75 are not more than 0.75, and 76 are."""
    labels = np.full((10, 12), IGNORE, np.uint8)
    labels.flat[:100] = 7
    labels.flat[: 100 - count] = 3
    assert expected == meets_class_share(labels, 0.75)


def test_last_try_is_accepted() -> None:
    """If no position meets the share, the last one is used."""
    _, rows, _ = make_coordinate_frames(1)
    random_numbers = np.zeros(NUM_RANDOM)
    random_numbers[19:21] = 0.999
    augment = make_augment((20, 40), 1.0, max_class_share=0.75)
    plan = augment.plan(np.zeros_like(rows[0]), random_numbers)
    assert (slice(H - 20, H), slice(W - 40, W)) == (plan.rows, plan.columns)
    assert not plan.labels.any()


def test_crops_without_labels_are_retried() -> None:
    """A crop of void is useless, whatever share is allowed."""
    images, _, _ = make_coordinate_frames(64)
    labels = np.full((64, H, W), IGNORE, np.uint8)
    labels[:, :, 60:] = 0
    target = augment_batch(make_augment((20, 40), 1.0), images, labels)[1]
    assert 62 <= int((target != IGNORE).flatten(1).any(1).sum())


def test_half_of_the_frames_are_flipped() -> None:
    """Horizontally, never vertically."""
    images, _, columns = make_coordinate_frames(200)
    target = augment_batch(make_augment((H, W), 1.0, flip=True), images, columns)[1]
    is_flipped = target[:, 0, 0] == W - 1
    assert 70 <= int(is_flipped.sum()) <= 130
    expected = torch.from_numpy(columns[0]).long()
    assert torch.equal(expected, target[~is_flipped][0])
    assert torch.equal(expected.flip(1), target[is_flipped][0])


def test_crops_cover_all_positions() -> None:
    """Over many frames, crops start in every possible row and column, including the last."""
    _, rows, columns = make_coordinate_frames(1)
    augment = make_augment((H - 5, W - 5), 1.0)
    random_numbers = np.random.default_rng(0).random((400, NUM_RANDOM))
    for labels in (rows[0], columns[0]):
        assert set(range(6)) == {
            int(augment.plan(labels, row).labels[0, 0]) for row in random_numbers
        }


def test_scales_cover_their_range() -> None:
    """Factors from 0.5 to 2, computed from the columns of the windows."""
    _, rows, _ = make_coordinate_frames(1)
    augment = Augment((20, 40), max_class_share=1.0)
    random_numbers = np.random.default_rng(0).random((100, NUM_RANDOM))
    columns_of = [augment.plan(rows[0], row).columns for row in random_numbers]
    factors = [40 / (columns.stop - columns.start) for columns in columns_of]
    assert 0.49 < min(factors) < 0.6
    assert 1.8 < max(factors) < 2.1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"crop": (0, 10)}, r"crop is \(0, 10\)"),
        ({"crop": (8, 8), "scale": (2.0, 0.5)}, "the smaller one first"),
        ({"crop": (8, 8), "scale": (0.0, 0.5)}, "above 0"),
        ({"crop": (8, 8), "max_class_share": 0.0}, "max_class_share is 0.0"),
        ({"crop": (8, 8), "max_class_share": 1.5}, "at most 1"),
    ],
)
def test_invalid_settings_are_refused(settings: dict, message: str) -> None:
    """Before the first batch."""
    with pytest.raises(ValueError, match=message):
        Augment(**settings)
