import numpy as np
import pytest

from segformer.data.resize import resize_image, resize_labels


def test_shrinking_averages() -> None:
    """A fine chequerboard becomes gray: without antialiasing it would stay black or white."""
    chequers = np.indices((64, 64)).sum(0) % 2 * 255
    image = np.repeat(chequers[..., None], 3, axis=2).astype(np.uint8)
    small = resize_image(image, (16, 16))

    assert ((16, 16, 3), np.uint8) == (small.shape, small.dtype)
    assert 3 >= np.abs(small.astype(int) - 127).max()


def test_labels_get_no_new_class() -> None:
    """Between classes 0 and 255 nothing is invented, at any size."""
    labels = np.random.default_rng(0).choice(np.array([0, 18, 255], np.uint8), (13, 17))
    for size in [(5, 9), (13, 17), (30, 40), (1, 1)]:
        small = resize_labels(labels, size)
        assert (size, np.uint8) == (small.shape, small.dtype)
        assert {0, 18, 255} >= set(small.flatten().tolist())


@pytest.mark.parametrize("size", [(20, 40), (30, 60), (60, 120), (17, 43), (120, 240)])
def test_image_and_label_stay_together(size: tuple[int, int]) -> None:
    """Where the image shows the source coordinate, the label shows it too, half a pixel at most."""
    rows, columns = np.indices((60, 120), dtype=np.uint8)
    image = resize_image(np.stack([rows, columns, rows], axis=2), size).astype(int)
    inner = slice(2, -2)  # at the edge the antialiasing has pixels on one side only
    for channel, coordinate in ((0, rows), (1, columns)):
        label = resize_labels(coordinate, size).astype(int)
        difference = (image[..., channel] - label)[inner, inner]
        # Half a source pixel, and as much again by rounding to bytes.
        assert 1 >= np.abs(difference).max()
        assert 0.51 >= abs(difference.mean())


def test_the_center_of_three_pixels_is_the_second() -> None:
    """Shrinking by three takes the middle one, where the center lies, not the first."""
    labels = np.tile(np.arange(9, dtype=np.uint8), (9, 1))
    assert [[1, 4, 7]] * 3 == resize_labels(labels, (3, 3)).tolist()
