import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segformer.data.packed_frames import normalize
from segformer.inference.score_resizing import Prediction
from segformer.inference.segment import segment
from segformer.inference.sliding_window import predict, window_offsets


class RecordingModel(nn.Module):
    """Three classes at a quarter of the size; records the batch shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 3, 4, stride=4)
        self.batch_shapes: list[tuple[int, ...]] = []

    def forward(self, images: Tensor) -> Tensor:
        """(b, 3, h, w) -> (b, 3, h / 4, w / 4)."""
        self.batch_shapes.append(tuple(images.shape))
        return self.patches(images)


@pytest.fixture
def model() -> RecordingModel:
    """The tiny network with known weights."""
    tiny = RecordingModel()
    generator = torch.Generator().manual_seed(0)
    for parameter in tiny.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    return tiny


def random_image(rows: int = 16, columns: int = 40) -> Tensor:
    """(rows, columns, 3) random bytes."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (rows, columns, 3), generator=generator, dtype=torch.uint8)


def resize_with_pytorch(scores: Tensor, size: tuple[int, ...]) -> Tensor:
    """(b, k, h, w) -> (b, k, *size)."""
    return F.interpolate(scores, size=size, mode="bilinear", align_corners=False)


def assert_prediction(probabilities: Tensor, prediction: Prediction) -> None:
    """The prediction is that of (1, k, h, w) probabilities."""
    assert torch.equal(probabilities[0].argmax(0).byte(), prediction.classes)
    torch.testing.assert_close(probabilities[0].amax(0), prediction.confidence)


def reference_sliding_window(
    model: RecordingModel, image: Tensor, window: int, stride: int
) -> Tensor:
    """(1, 3, h, w) -> (1, k, h, w): windows one by one, resized, summed and divided."""
    height, width = image.shape[2:]
    total, counts = torch.zeros(1, 3, height, width), torch.zeros(height, width)
    top = 0
    while True:
        left, y = 0, min(top, height - window)
        while True:
            x = min(left, width - window)
            part = slice(y, y + window), slice(x, x + window)
            total[..., part[0], part[1]] += resize_with_pytorch(
                model.patches(image[..., part[0], part[1]]), (window, window)
            )
            counts[part] += 1
            if x + window >= width:
                break
            left += stride
        if y + window >= height:
            return total / counts
        top += stride


def test_whole_image_equals_segment(model: RecordingModel) -> None:
    """One scale without flipping gives the classes of `segment`."""
    expected = segment(model, random_image()[None], input_size=(16, 40), output_size=(30, 50))[0]
    assert torch.equal(expected, predict(model, [random_image()], output_size=(30, 50)).classes)


def test_batched_windows_equal_single_windows(model: RecordingModel) -> None:
    """Scores, not softmax, are averaged over the windows, which run in batches."""
    expected = reference_sliding_window(model, normalize(random_image()[None]), 8, 6).softmax(1)
    prediction = predict(model, [random_image()], output_size=(16, 40), windows=((8, 8), (6, 6)))
    assert_prediction(expected, prediction)
    assert [4, 4, 4, 4, 4, 1] == [shape[0] for shape in model.batch_shapes]  # 3 x 7 windows


def test_windows_of_the_paper() -> None:
    """1024 wide with stride 768, three cover 2048 columns; the last is moved back to the edge."""
    assert [0, 768, 1024] == window_offsets(2048, 1024, 768)
    assert [0] == window_offsets(1024, 1024, 768)
    assert [0, 512, 1024] == window_offsets(2048, 1024, 512)
    assert [0] == window_offsets(500, 1024, 768)


def test_image_smaller_than_the_window_is_predicted_whole(model: RecordingModel) -> None:
    """As without windows."""
    expected = predict(model, [random_image()], output_size=(16, 40))
    prediction = predict(
        model, [random_image()], output_size=(16, 40), windows=((99, 99), (50, 50))
    )
    assert torch.equal(expected.confidence, prediction.confidence)
    assert [(1, 3, 16, 40)] * 2 == model.batch_shapes


def test_flips_and_scales_average_the_softmax(model: RecordingModel) -> None:
    """Two scales, each also flipped and flipped back: the mean of four softmaxes."""
    images = [random_image(), random_image(32, 80)]
    total = torch.zeros(1, 3, 16, 40)
    for image in images:
        pixels = normalize(image[None])
        for scores in (model.patches(pixels), model.patches(pixels.flip(-1)).flip(-1)):
            total += resize_with_pytorch(scores, (16, 40)).softmax(1) / 4
    assert_prediction(total, predict(model, images, output_size=(16, 40), flip=True))


def test_windows_of_the_flipped_image_are_flipped_back(model: RecordingModel) -> None:
    """The flipped image has the same windows, and its averaged scores are flipped back."""
    image = normalize(random_image()[None])
    flipped_back = reference_sliding_window(model, image.flip(-1), 8, 6).flip(-1)
    expected = (
        reference_sliding_window(model, image, 8, 6).softmax(1) + flipped_back.softmax(1)
    ) / 2
    windows = ((8, 8), (6, 6))
    assert_prediction(
        expected, predict(model, [random_image()], output_size=(16, 40), windows=windows, flip=True)
    )


def test_flipped_image_gives_the_flipped_result(model: RecordingModel) -> None:
    """With flipping, left and right are equivalent."""
    windows = ((8, 8), (6, 6))
    result, flipped = (
        predict(model, [image], output_size=(16, 40), windows=windows, flip=True)
        for image in (random_image(), random_image().flip(1))
    )
    assert torch.equal(result.classes, flipped.classes.flip(-1))


def test_windows_that_leave_gaps_are_refused(model: RecordingModel) -> None:
    """Pixels between them would have no score."""
    with pytest.raises(ValueError, match="windows of 8x8 with stride 8x9 leave gaps"):
        predict(model, [random_image()], output_size=(16, 40), windows=((8, 8), (8, 9)))
