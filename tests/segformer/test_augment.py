import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from segformer.augment import HUE, Augment, distort, hue_rotation
from segformer.cityscapes import IGNORE
from segformer.frames import MEAN, STD

H, W = 60, 120


def seeded(seed: int = 0) -> torch.Generator:
    """A fresh generator."""
    return torch.Generator().manual_seed(seed)


def plain(crop: tuple[int, int], factor: float, **settings: object) -> Augment:
    """An augmentation that only scales by a known factor and cuts."""
    settings = {"max_class_share": 1.0, "flip": False, "photometric": False} | settings
    return Augment(crop, (factor, factor), **settings)


def coordinates(b: int) -> tuple[Tensor, Tensor, Tensor]:
    """(b, H, W, 3) images that show their rows in red and columns in green; both as labels."""
    rows, columns = np.indices((H, W), dtype=np.uint8)
    image = torch.from_numpy(np.stack([rows, columns, np.full_like(rows, 128)], axis=2))
    rows, columns = torch.from_numpy(rows), torch.from_numpy(columns)
    return image.repeat(b, 1, 1, 1), rows.repeat(b, 1, 1), columns.repeat(b, 1, 1)


def shown(pixels: Tensor) -> Tensor:
    """Undo the normalisation: (b, 3, h, w), 0..255."""
    mean, std = (torch.tensor(numbers)[:, None, None] for numbers in (MEAN, STD))
    return (pixels * std + mean) * 255


@pytest.mark.parametrize("factor", [0.5, 0.6, 1.0, 1.3, 2.0])
@pytest.mark.parametrize("flip", [False, True])
def test_image_and_label_move_together(factor: float, flip: bool) -> None:
    """Where the image shows a coordinate, the label holds the pixel nearest to it."""
    images, rows, columns = coordinates(6)
    augment = plain((24, 40), factor, flip=flip)
    pixels, row_labels = augment(images, rows, seeded())
    same, column_labels = augment(images, columns, seeded())

    assert torch.equal(pixels, same)
    inner = (slice(None), slice(3, -3), slice(3, -3))  # the antialiasing ends at the cut
    is_frame = (row_labels != IGNORE)[inner]
    for channel, labels in ((0, row_labels), (1, column_labels)):
        difference = (shown(pixels)[:, channel] - labels)[inner][is_frame]
        assert 0.5 + 1e-3 >= difference.abs().max()


def test_without_change_of_size_a_crop_is_a_copy() -> None:
    """At factor 1 every pixel of the crop is a pixel of the frame, beside its own label."""
    images, rows, _ = coordinates(3)
    pixels, labels = plain((10, 20), 1.0)(images, rows, seeded())
    torch.testing.assert_close(labels.float(), shown(pixels)[:, 0], atol=1e-3, rtol=0)
    corners = {tuple(corner) for corner in shown(pixels)[:, :2, 0, 0].round().int().tolist()}
    assert 3 == len(corners)  # each frame is cut elsewhere


def test_shapes_and_types() -> None:
    """Float images and int64 labels of the crop's size, whatever the frame's."""
    images, rows, _ = coordinates(2)
    pixels, labels = Augment((33, 47))(images, rows, seeded())
    assert ((2, 3, 33, 47), torch.float32) == (pixels.shape, pixels.dtype)
    assert ((2, 33, 47), torch.int64) == (labels.shape, labels.dtype)


def test_the_inputs_stay_as_they_are() -> None:
    """Packed frames on the device are used again and again."""
    images, rows, _ = coordinates(2)
    before = images.clone(), rows.clone()
    Augment((24, 40))(images, rows, seeded())
    assert torch.equal(before[0], images)
    assert torch.equal(before[1], rows)


@pytest.mark.parametrize("flip", [False, True])
def test_padding_is_void_and_mean_colour(flip: bool) -> None:
    """Half the frame in a crop of the whole: a quarter is frame, the rest is exactly 0 and void."""
    images, rows, _ = coordinates(8)
    pixels, labels = plain((H, W), 0.5, flip=flip, photometric=True)(images, rows, seeded())
    is_frame = labels != IGNORE
    assert [H // 2 * W // 2] * 8 == is_frame.sum((1, 2)).tolist()
    assert 0 == pixels.movedim(1, -1)[~is_frame].abs().max()
    assert 0 < pixels.movedim(1, -1)[is_frame].abs().amax(-1).min()
    if not flip:
        assert is_frame[:, : H // 2, : W // 2].all()


def test_shrinking_averages() -> None:
    """A fine chequerboard becomes grey: the image is antialiased."""
    chequers = (torch.arange(H)[:, None] + torch.arange(W)) % 2 * 255
    images = chequers.byte()[None, ..., None].expand(1, H, W, 3)
    labels = torch.zeros(1, H, W, dtype=torch.uint8)
    pixels, _ = plain((H // 2, W // 2), 0.5)(images, labels, seeded())
    assert 3 >= (shown(pixels) - 127.5)[..., 1:-1, 1:-1].abs().max()


def test_it_scales_as_pillow_does() -> None:
    """The whole frame at half size is Pillow's bilinear reduction, to a level of rounding."""
    images = torch.randint(0, 256, (1, H, W, 3), generator=seeded(), dtype=torch.uint8)
    labels = torch.zeros(1, H, W, dtype=torch.uint8)
    pixels, _ = plain((H // 2, W // 2), 0.5)(images, labels, seeded())
    picture = Image.fromarray(images[0].numpy())
    small = picture.resize((W // 2, H // 2), Image.Resampling.BILINEAR)
    assert 1.01 >= np.abs(shown(pixels)[0].permute(1, 2, 0).numpy() - np.asarray(small)).max()


def test_labels_get_no_new_class() -> None:
    """Nothing lies between the classes 0 and 18."""
    images, _, _ = coordinates(8)
    labels = torch.randint(0, 2, (8, H, W), generator=seeded(), dtype=torch.uint8) * 18
    _, target = Augment((24, 40))(images, labels, seeded())
    assert {0, 18, IGNORE} >= set(target.flatten().tolist())


def mostly_road(b: int) -> tuple[Tensor, Tensor]:
    """Frames all road but for a strip of car at the right, void at the left."""
    images, _, _ = coordinates(b)
    labels = torch.zeros(b, H, W, dtype=torch.uint8)
    labels[:, :, 80:] = 13
    labels[:, :, :20] = IGNORE
    return images, labels


def largest_share(target: Tensor) -> float:
    """The share of the labelled pixels that the commonest class has."""
    counts = target[target != IGNORE].bincount()
    return (counts.max() / counts.sum()).item()


def test_no_class_has_more_than_its_share() -> None:
    """Void not counted, no crop is more than three quarters road; without the rule many are."""
    images, labels = mostly_road(64)
    # Every second place will do, so that ten tries fail once in a thousand frames.
    ruled = plain((20, 80), 1.0, max_class_share=0.75)(images, labels, seeded())[1]
    free = plain((20, 80), 1.0, max_class_share=1.0)(images, labels, seeded())[1]
    assert 0.75 >= max(largest_share(one) for one in ruled)
    assert 20 < sum(largest_share(one) > 0.75 for one in free)


def test_a_frame_of_one_class_is_taken_in_the_end() -> None:
    """If no place will do, the last one is taken."""
    images, _, _ = coordinates(1)
    target = Augment((20, 40))(images, torch.zeros(1, H, W, dtype=torch.uint8), seeded())[1]
    assert 0 == target[target != IGNORE].max()


def test_a_crop_of_void_is_placed_anew() -> None:
    """A crop without a label teaches nothing, whatever share is allowed."""
    images, _, _ = coordinates(64)
    labels = torch.full((64, H, W), IGNORE, dtype=torch.uint8)
    labels[:, :, 60:] = 0
    target = plain((20, 40), 1.0)(images, labels, seeded())[1]
    assert 62 <= int((target != IGNORE).flatten(1).any(1).sum())


def test_half_of_the_frames_are_flipped() -> None:
    """Left and right, never top and bottom."""
    images, _, columns = coordinates(200)
    target = plain((H, W), 1.0, flip=True)(images, columns, seeded())[1]
    is_flipped = target[:, 0, 0] == W - 1
    assert 70 <= int(is_flipped.sum()) <= 130
    assert torch.equal(columns[0].long(), target[~is_flipped][0])
    assert torch.equal(columns[0].long().flip(1), target[is_flipped][0])


def test_a_crop_may_lie_anywhere() -> None:
    """Over many frames, it begins in every row and column in which it fits, the last ones too."""
    images, rows, columns = coordinates(400)
    augment = plain((H - 5, W - 5), 1.0)
    for labels in (rows, columns):
        target = augment(images, labels, seeded())[1]
        assert set(range(6)) == set(target[:, 0, 0].tolist())


def test_scales_fill_their_range() -> None:
    """Factors from 0.5 to 2: the columns a crop spans say which."""
    images, _, columns = coordinates(100)
    augment = Augment((20, 40), max_class_share=1.0, flip=False, photometric=False)
    target = augment(images, columns, seeded())[1]
    factors = 39 / (target[:, 0, -1] - target[:, 0, 0])
    assert 0.48 < factors.min() < 0.6
    assert 1.8 < factors.max() < 2.1


@pytest.mark.parametrize("seed", [0, 1])
def test_the_seed_decides_everything(seed: int) -> None:
    """The same seed gives the same bytes, another seed others, whatever the global one is."""
    images, rows, _ = coordinates(4)
    augment = Augment((24, 40))
    torch.manual_seed(5)
    one = augment(images, rows, seeded(seed))
    torch.manual_seed(6)
    two, other = augment(images, rows, seeded(seed)), augment(images, rows, seeded(seed + 1))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert not torch.equal(one[0], other[0])


def test_what_is_drawn_does_not_depend_on_the_labels() -> None:
    """However many places are tried, the generator ends in the same state."""
    images, labels = mostly_road(4)
    one, two = seeded(), seeded()
    Augment((20, 40))(images, labels, one)
    Augment((20, 40))(images, torch.zeros_like(labels), two)
    assert torch.equal(one.get_state(), two.get_state())


def test_distortion_leaves_some_images_as_they_are() -> None:
    """Each of four changes comes in half of the images: about one in sixteen has none."""
    pixels = torch.tensor([200.0, 100, 50])[None, :, None, None].repeat(320, 1, 1, 1)
    is_same = (distort(pixels, seeded()) - pixels).abs().amax((1, 2, 3)) < 1e-3
    assert 8 <= int(is_same.sum()) <= 36


def test_distortion_stays_in_range() -> None:
    """Bytes stay bytes: 0 to 255."""
    pixels = 255 * torch.rand(64, 3, 4, 4, generator=seeded())
    changed = distort(pixels, seeded())
    assert 0 == changed.min()
    assert 255 == changed.max()


def changed_only(
    monkeypatch: pytest.MonkeyPatch, which: int, draw: float
) -> Callable[[Tensor], Tensor]:
    """The distortion with one of its four changes, at a known place within its range."""
    coins = torch.ones(4, 1, 1, 1, 1)
    coins[which] = 0
    drawn = iter([coins, torch.full((4, 1, 1, 1, 1), draw)])
    monkeypatch.setattr("segformer.augment._uniform", lambda shape, generator: next(drawn))
    return lambda pixels: distort(pixels, seeded())


@pytest.mark.parametrize(
    ("which", "draw", "expected"),
    [
        (0, 1.0, [132, 92, 72]),  # brightness: 32 more
        (0, 0.0, [68, 28, 8]),
        (1, 1.0, [150, 90, 60]),  # contrast: one and a half times
        (1, 0.0, [50, 30, 20]),
        (2, 1.0, [100, 40, 10]),  # saturation: away from the largest, and its half
        (2, 0.0, [100, 80, 70]),
    ],
)
def test_each_distortion_by_hand(
    monkeypatch: pytest.MonkeyPatch, which: int, draw: float, expected: list[float]
) -> None:
    """The ends of every range, on one colour."""
    colour = torch.tensor([100.0, 60, 40]).reshape(1, 3, 1, 1)
    changed = changed_only(monkeypatch, which, draw)(colour)
    torch.testing.assert_close(torch.tensor(expected, dtype=torch.float32), changed.flatten())


def test_hue_turns_red_towards_green(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hue of a soft red, as the colour circle has it, moves by 36 degrees; greys stay."""
    colour = torch.tensor([140.0, 100, 100]).reshape(1, 3, 1, 1)
    red, green, blue = changed_only(monkeypatch, 3, 1.0)(colour).flatten().tolist()
    hue = math.degrees(math.atan2(math.sqrt(3) * (green - blue), 2 * red - green - blue))
    assert HUE == pytest.approx(hue, abs=1e-3)
    assert 340 == pytest.approx(red + green + blue, rel=1e-5)


def test_hue_rotation_keeps_greys_and_turns_by_thirds() -> None:
    """A third of the circle carries red to green, green to blue and blue to red."""
    turn = hue_rotation(torch.tensor([2 * math.pi / 3]))[0]
    torch.testing.assert_close(torch.tensor([0.0, 1, 0]), turn @ torch.tensor([1.0, 0, 0]))
    torch.testing.assert_close(torch.tensor([0.0, 0, 1]), turn @ torch.tensor([0.0, 1, 0]))
    torch.testing.assert_close(torch.full((3,), 7.0), turn @ torch.full((3,), 7.0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"crop": (0, 10)}, r"crop is \(0, 10\)"),
        ({"crop": (8, 8), "scale": (2.0, 0.5)}, "the lesser factor first"),
        ({"crop": (8, 8), "scale": (0.0, 0.5)}, "above 0"),
        ({"crop": (8, 8), "max_class_share": 0.0}, "max_class_share is 0.0"),
        ({"crop": (8, 8), "max_class_share": 1.5}, "at most 1"),
    ],
)
def test_impossible_settings_are_refused(settings: dict, message: str) -> None:
    """Before the first batch."""
    with pytest.raises(ValueError, match=message):
        Augment(**settings)
