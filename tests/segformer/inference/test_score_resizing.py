import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from segformer.inference import score_resizing
from segformer.inference.score_resizing import (
    ScaledScores,
    WindowScores,
    as_single_window,
    reduce_scores,
    resize_and_argmax,
)
from segformer.metrics.calibration import confidence

SIZES = [(8, 12), (32, 48), (30, 50), (7, 5)]


def random_scores(seed: int = 0, size: tuple[int, int] = (8, 12), k: int = 5) -> Tensor:
    """(k, *size) normal scores."""
    return 3 * torch.randn(k, *size, generator=torch.Generator().manual_seed(seed))


def resize_with_pytorch(scores: Tensor, size: tuple[int, int]) -> Tensor:
    """(k, h, w) -> (k, *size) by PyTorch's own operator."""
    return F.interpolate(scores[None], size=size, mode="bilinear", align_corners=False)[0]


@pytest.fixture(params=[1, 10**9])
def band(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bands of one row, and one band for all."""
    monkeypatch.setattr(score_resizing, "_BYTES_ON_CPU", request.param)


@pytest.mark.usefixtures("band")
@pytest.mark.parametrize("size", SIZES)
def test_classes_equal_argmax_of_resized_scores(size: tuple[int, int]) -> None:
    """Bands give the result of PyTorch's resizing and argmax, for larger and smaller sizes."""
    scores = random_scores()
    expected = resize_with_pytorch(scores, size).argmax(0).byte()
    assert torch.equal(expected, resize_and_argmax(scores, size))
    assert torch.equal(expected, reduce_scores([as_single_window(scores)], size).classes)


@pytest.mark.usefixtures("band")
@pytest.mark.parametrize("size", SIZES)
def test_confidence_is_that_of_the_resized_scores(size: tuple[int, int]) -> None:
    """The largest softmax probability at the size of the result."""
    scores = random_scores()
    expected = confidence(resize_with_pytorch(scores, size)[None])[0]
    torch.testing.assert_close(expected, reduce_scores([as_single_window(scores)], size).confidence)


def test_first_of_equal_scores_is_chosen() -> None:
    """As argmax on one thread: ties do not depend on the reduction of a band."""
    scores = torch.zeros(19, 16, 16)
    scores[3:7] = 1
    assert [3] == resize_and_argmax(scores, (64, 64)).unique().tolist()


@pytest.mark.usefixtures("band")
def test_overlapping_windows_are_averaged() -> None:
    """Two windows of 8 x 8 pixels with stride 4: the middle columns are the mean of both."""
    left, right = random_scores(1, (2, 2)), random_scores(2, (2, 2))
    view = ScaledScores((8, 12), [WindowScores(left, 0, 0, 8, 8), WindowScores(right, 0, 4, 8, 8)])
    total, times = torch.zeros(5, 8, 12), torch.zeros(8, 12)
    for window, column in ((left, 0), (right, 4)):
        total[..., column : column + 8] += resize_with_pytorch(window, (8, 8))
        times[:, column : column + 8] += 1
    expected = total / times
    prediction = reduce_scores([view], (8, 12))
    assert torch.equal(expected.argmax(0).byte(), prediction.classes)
    torch.testing.assert_close(confidence(expected[None])[0], prediction.confidence)


@pytest.mark.usefixtures("band")
def test_softmax_is_averaged_over_scales() -> None:
    """Probabilities, not scores: a scale with large scores has no larger weight."""
    views = [random_scores(1), 10 * random_scores(2, (4, 6)), random_scores(3, (16, 24))]
    expected = sum(resize_with_pytorch(window, (32, 48)).softmax(0) for window in views) / 3
    prediction = reduce_scores([as_single_window(window) for window in views], (32, 48))
    assert torch.equal(expected.argmax(0).byte(), prediction.classes)
    torch.testing.assert_close(expected.amax(0), prediction.confidence)
    assert prediction.confidence.max() <= 1


@pytest.mark.parametrize("size", [(8, 12), (9, 13), (16, 24), (5, 7)])
def test_uneven_windows_cover_every_pixel(size: tuple[int, int]) -> None:
    """Windows with edges between pixels of the result leave no pixel without scores.

    If all windows have the same scores everywhere, so has the result.
    """
    scores = torch.tensor([1.0, 3.0, 2.0])[:, None, None].expand(3, 2, 2)
    corners = [(top, left) for top in (0, 5) for left in (0, 5, 9)]
    view = ScaledScores((12, 16), [WindowScores(scores, *corner, 7, 7) for corner in corners])
    prediction = reduce_scores([view], size)
    assert [1] == prediction.classes.unique().tolist()
    share = torch.tensor([1.0, 3.0, 2.0]).softmax(0)[1]
    torch.testing.assert_close(share.expand(size), prediction.confidence)


def test_ramp_is_continuous_across_uneven_windows() -> None:
    """A window resized by any factor keeps its position."""
    # One cell per pixel of a view 12 wide; class 1 beats class 0 from its seventh pixel on.
    ramp = torch.arange(12.0) - 5.5
    scores = torch.stack([torch.zeros(2, 12), ramp.expand(2, 12)])
    view = ScaledScores((2, 12), [WindowScores(scores[..., i : i + 8], 0, i, 2, 8) for i in (0, 4)])
    for columns in (30, 18, 12):
        classes = reduce_scores([view], (2, columns)).classes
        assert columns // 2 == int((classes[0] == 0).sum())


def test_half_precision_scores_are_resized_in_float32() -> None:
    """bfloat16 scores give the result of the same values in float32."""
    scores = random_scores().bfloat16()
    expected = reduce_scores([as_single_window(scores.float())], (32, 48))
    actual = reduce_scores([as_single_window(scores)], (32, 48))
    assert torch.equal(expected.classes, actual.classes)
    assert torch.equal(expected.confidence, actual.confidence)
