import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segformer.data.packed_frames import PackedFrames, create, normalize
from segformer.data.resize import resize_image
from segformer.inference.segment import eval_mode, evaluate_packed, resize_scores, segment
from segformer.metrics.confusion import confusion_matrix


class DropoutModel(nn.Module):
    """Three classes at a quarter of the size, with a layer that differs in training."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 3, 4, stride=4, padding=2)
        self.dropout = nn.Dropout(0.5)
        self.batch_sizes: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        """(b, 3, h, w) -> (b, 3, about h / 4, about w / 4)."""
        self.batch_sizes.append(len(images))
        return self.dropout(self.patches(images))


@pytest.fixture
def model() -> DropoutModel:
    """The tiny network with known weights, in training mode."""
    tiny = DropoutModel()
    generator = torch.Generator().manual_seed(0)
    for parameter in tiny.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    return tiny


def random_images(b: int, h: int = 16, w: int = 24) -> Tensor:
    """(b, h, w, 3) random bytes."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (b, h, w, 3), generator=generator, dtype=torch.uint8)


def test_scores_of_past_batches_are_freed(tmp_path: Path) -> None:
    """Evaluation never holds the scores of more than one batch, for any number of frames."""
    alive: list[weakref.ref[Tensor]] = []
    most = 0

    def network(images: Tensor) -> Tensor:
        nonlocal most
        scores = images[:, :, ::4, ::4].clone()
        alive.append(weakref.ref(scores))
        most = max(most, sum(frame() is not None for frame in alive))
        return scores

    model = nn.Module()
    model.forward = network
    names = [str(i) for i in range(6)]
    with create(tmp_path / "pack", names, (8, 8)) as (images, labels):
        images[:], labels[:] = 7, 1
    confusion = evaluate_packed(model, PackedFrames.open(tmp_path / "pack"), 1, "cpu")
    assert 6 * 8 * 8 == confusion.sum()
    assert most <= 2  # those just made, and those of the batch before until they are replaced


def test_scores_are_resized_between_pixel_centers() -> None:
    """Doubling 0 and 4 gives 0 1 3 4: pixel centers, not corners, are aligned."""
    scores = torch.tensor([0.0, 4.0]).reshape(1, 1, 1, 2)
    assert [0, 1, 3, 4] == resize_scores(scores, (1, 4)).flatten().tolist()


def test_argmax_is_taken_after_resizing(model: DropoutModel) -> None:
    """Scores are resized and then compared: classes are never resized."""
    images = random_images(2)
    classes = segment(model, images, input_size=(16, 24), output_size=(30, 50))
    scores = model.patches(normalize(images))
    expected = F.interpolate(scores, (30, 50), mode="bilinear", align_corners=False).argmax(1)
    assert torch.uint8 == classes.dtype
    assert torch.equal(expected.byte(), classes)


def test_network_input_equals_packed_frames(model: DropoutModel) -> None:
    """A large image is resized as by Pillow for the packed frames, within one level of 255."""
    recorded = []
    model.patches.register_forward_pre_hook(lambda _, inputs: recorded.append(inputs[0]))
    images = random_images(1, 64, 96)
    segment(model, images, input_size=(16, 24), output_size=(64, 96))
    packed = resize_image(images[0].numpy(), (16, 24))
    expected = normalize(torch.from_numpy(packed.copy())[None])
    assert 1.01 / (0.224 * 255) >= (expected - recorded[0]).abs().max()


@pytest.mark.parametrize("is_training", [True, False])
def test_mode_is_restored(model: DropoutModel, is_training: bool) -> None:
    """Dropout is off within and as before afterwards, also after an error."""
    model.train(is_training)

    def fail() -> None:
        with eval_mode(model):
            assert not model.dropout.training
            assert not torch.is_grad_enabled()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert is_training == model.training
    assert torch.is_grad_enabled()


@pytest.fixture
def frames(tmp_path: Path) -> PackedFrames:
    """Five packed frames with all three classes and void."""
    rng = np.random.default_rng(0)
    with create(tmp_path / "val", list("abcde"), (16, 24)) as (images, labels):
        images[:] = random_images(5)
        labels[:] = rng.choice(np.array([0, 1, 2, 255], np.uint8), (5, 16, 24))
    return PackedFrames.open(tmp_path / "val")


@pytest.mark.parametrize("batch_size", [1, 2, 5, 8])
def test_every_packed_frame_is_counted_once(
    model: DropoutModel, frames: PackedFrames, batch_size: int
) -> None:
    """For any batch size, the confusion is that of all frames, each predicted alone."""
    confusion = evaluate_packed(model, frames, batch_size, "cpu")
    expected = torch.zeros(3, 3, dtype=torch.int64)
    for i in range(5):
        image, label = frames.batch([i])
        classes = segment(model, image, input_size=(16, 24), output_size=(16, 24))
        expected += confusion_matrix(classes, label, 3)
    assert torch.equal(expected, confusion)
    assert int((frames.labels != 255).sum()) == int(confusion.sum())
    assert batch_size >= max(model.batch_sizes)


def test_evaluation_draws_no_random_numbers(model: DropoutModel, frames: PackedFrames) -> None:
    """Validation during training does not change the following training."""
    before = torch.get_rng_state()
    evaluate_packed(model, frames, 2, "cpu")
    assert torch.equal(before, torch.get_rng_state())
    assert model.training
