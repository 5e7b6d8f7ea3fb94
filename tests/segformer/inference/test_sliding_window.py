import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segformer.data.packed_frames import normalize
from segformer.inference.score_resizing import Prediction
from segformer.inference.segment import segment
from segformer.inference.sliding_window import predict, window_offsets


class Tiny(nn.Module):
    """Three classes at a quarter of the size, and how many pictures it was shown at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 3, 4, stride=4)
        self.shown: list[tuple[int, ...]] = []

    def forward(self, images: Tensor) -> Tensor:
        """(b, 3, h, w) -> (b, 3, h / 4, w / 4)."""
        self.shown.append(tuple(images.shape))
        return self.patches(images)


@pytest.fixture
def model() -> Tiny:
    """The tiny network with known weights."""
    tiny = Tiny()
    generator = torch.Generator().manual_seed(0)
    for parameter in tiny.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    return tiny


def picture(rows: int = 16, columns: int = 40) -> Tensor:
    """(rows, columns, 3) random bytes."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (rows, columns, 3), generator=generator, dtype=torch.uint8)


def resized(scores: Tensor, size: tuple[int, ...]) -> Tensor:
    """(b, k, h, w) -> (b, k, *size)."""
    return F.interpolate(scores, size=size, mode="bilinear", align_corners=False)


def assert_seen(probabilities: Tensor, seen: Prediction) -> None:
    """(1, k, h, w) probabilities are what was seen."""
    assert torch.equal(probabilities[0].argmax(0).byte(), seen.classes)
    torch.testing.assert_close(probabilities[0].amax(0), seen.confidence)


def slid(model: Tiny, image: Tensor, window: int, stride: int) -> Tensor:
    """(1, 3, h, w) -> (1, k, h, w): windows one by one, resized, summed and divided, in full."""
    height, width = image.shape[2:]
    total, times = torch.zeros(1, 3, height, width), torch.zeros(height, width)
    top = 0
    while True:
        left, y = 0, min(top, height - window)
        while True:
            x = min(left, width - window)
            part = slice(y, y + window), slice(x, x + window)
            total[..., part[0], part[1]] += resized(
                model.patches(image[..., part[0], part[1]]), (window, window)
            )
            times[part] += 1
            if x + window >= width:
                break
            left += stride
        if y + window >= height:
            return total / times
        top += stride


def test_whole_is_what_segment_gives(model: Tiny) -> None:
    """One picture, one size, no mirror: the classes of `segment`."""
    expected = segment(model, picture()[None], input_size=(16, 40), output_size=(30, 50))[0]
    assert torch.equal(expected, predict(model, [picture()], output_size=(30, 50)).classes)


def test_windows_are_averaged_as_one_by_one(model: Tiny) -> None:
    """Scores, not softmax, are averaged over the windows, which are shown in batches."""
    expected = slid(model, normalize(picture()[None]), 8, 6).softmax(1)
    seen = predict(model, [picture()], output_size=(16, 40), windows=((8, 8), (6, 6)))
    assert_seen(expected, seen)
    assert [4, 4, 4, 4, 4, 1] == [shape[0] for shape in model.shown]  # 3 x 7 windows


def test_the_papers_windows() -> None:
    """1024 wide and 768 apart, three cover 2048 columns; the last is moved back to the edge."""
    assert [0, 768, 1024] == window_offsets(2048, 1024, 768)
    assert [0] == window_offsets(1024, 1024, 768)
    assert [0, 512, 1024] == window_offsets(2048, 1024, 512)
    assert [0] == window_offsets(500, 1024, 768)


def test_a_picture_smaller_than_the_window_is_seen_whole(model: Tiny) -> None:
    """As if there were no windows."""
    expected = predict(model, [picture()], output_size=(16, 40))
    seen = predict(model, [picture()], output_size=(16, 40), windows=((99, 99), (50, 50)))
    assert torch.equal(expected.confidence, seen.confidence)
    assert [(1, 3, 16, 40)] * 2 == model.shown


def test_the_mirror_and_sizes_average_the_softmax(model: Tiny) -> None:
    """Two sizes, each also mirrored and turned back: the mean of four softmaxes."""
    shown = [picture(), picture(32, 80)]
    total = torch.zeros(1, 3, 16, 40)
    for one in shown:
        image = normalize(one[None])
        for scores in (model.patches(image), model.patches(image.flip(-1)).flip(-1)):
            total += resized(scores, (16, 40)).softmax(1) / 4
    assert_seen(total, predict(model, shown, output_size=(16, 40), flip=True))


def test_windows_of_the_mirrored_picture_are_put_where_they_belong(model: Tiny) -> None:
    """The mirrored picture is cut as any other, and its averaged scores are turned back."""
    image = normalize(picture()[None])
    turned_back = slid(model, image.flip(-1), 8, 6).flip(-1)
    expected = (slid(model, image, 8, 6).softmax(1) + turned_back.softmax(1)) / 2
    windows = ((8, 8), (6, 6))
    assert_seen(
        expected, predict(model, [picture()], output_size=(16, 40), windows=windows, flip=True)
    )


def test_a_mirrored_picture_is_seen_as_the_mirrored_result(model: Tiny) -> None:
    """With the mirror, left and right are alike: the result of a mirrored picture is mirrored."""
    windows = ((8, 8), (6, 6))
    one, other = (
        predict(model, [image], output_size=(16, 40), windows=windows, flip=True)
        for image in (picture(), picture().flip(1))
    )
    assert torch.equal(one.classes, other.classes.flip(-1))


def test_windows_that_leave_gaps_are_refused(model: Tiny) -> None:
    """Pixels between them would have no score."""
    with pytest.raises(ValueError, match="windows of 8x8 with stride 8x9 leave gaps"):
        predict(model, [picture()], output_size=(16, 40), windows=((8, 8), (8, 9)))
