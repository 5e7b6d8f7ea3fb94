import numpy as np
import pytest
import torch
from PIL import Image

from segformer.cityscapes import IGNORE
from segformer.data.augment import Augment
from tests.reference.crops import (
    H,
    W,
    augment_batch,
    denormalize,
    make_augment,
    make_coordinate_frames,
)


def test_shapes_and_types() -> None:
    """Float images of the crop size, for any size of the frame."""
    images, rows, _ = make_coordinate_frames(2)
    pixels, _ = augment_batch(Augment((33, 47)), images, rows)
    assert ((2, 3, 33, 47), torch.float32) == (pixels.shape, pixels.dtype)
    assert pixels.is_contiguous()


@pytest.mark.parametrize("flip", [False, True])
def test_padding_is_void_and_mean_color(flip: bool) -> None:
    """A frame of half the crop's size: a quarter is frame, the rest is exactly 0 and void."""
    images, rows, _ = make_coordinate_frames(8)
    pixels, labels = augment_batch(
        make_augment((H, W), 0.5, flip=flip, photometric=True), images, rows
    )
    is_frame = labels != IGNORE
    assert [H // 2 * W // 2] * 8 == is_frame.sum((1, 2)).tolist()
    assert 0 == pixels.movedim(1, -1)[~is_frame].abs().max()
    assert 0 < pixels.movedim(1, -1)[is_frame].abs().amax(-1).min()
    if not flip:
        assert is_frame[:, : H // 2, : W // 2].all()


def test_shrinking_is_antialiased() -> None:
    """A fine checkerboard becomes gray."""
    chequers = (np.indices((H, W)).sum(0) % 2 * 255).astype(np.uint8)
    images = chequers[None, ..., None].repeat(3, -1)
    pixels, _ = augment_batch(
        make_augment((H // 2, W // 2), 0.5), images, np.zeros((1, H, W), np.uint8)
    )
    assert 3 >= (denormalize(pixels) - 127.5)[..., 1:-1, 1:-1].abs().max()


@pytest.mark.parametrize("factor", [0.5, 1.5])
def test_resizing_equals_pillow(factor: float) -> None:
    """The whole frame at another size is Pillow's bilinear resizing, up to rounding."""
    images = np.random.default_rng(0).integers(0, 256, (1, H, W, 3), dtype=np.uint8)
    rows, columns = int(H * factor), int(W * factor)
    labels = np.zeros((1, H, W), np.uint8)
    pixels, _ = augment_batch(make_augment((rows, columns), factor), images, labels)
    expected = Image.fromarray(images[0]).resize((columns, rows), Image.Resampling.BILINEAR)
    assert (
        1.01 >= np.abs(denormalize(pixels)[0].permute(1, 2, 0).numpy() - np.asarray(expected)).max()
    )
