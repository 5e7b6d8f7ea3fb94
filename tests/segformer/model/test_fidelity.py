"""Our network against transformers', with the same random weights, statistics and biases."""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from segformer.model.segformer import SegFormer
from segformer.model.variants import VARIANTS, get_variant
from segformer.weights.interop import load_model

ODD = (1, 97, 131)  # images, rows, columns: no stride divides them
BATCH = (3, 64, 96)
FULL = (1, 512, 1024)


def make_networks(variant: str, folder: Path) -> tuple[nn.Module, SegFormer]:
    """Transformers' network with random tensors, and ours with the same weights."""
    size = get_variant(variant)
    config = SegformerConfig(
        hidden_sizes=size.widths,
        depths=size.depths,
        decoder_hidden_size=size.decoder_width,
        num_labels=19,
        drop_path_rate=0.0,
        classifier_dropout_prob=0.0,
    )
    torch.manual_seed(0)
    theirs = SegformerForSemanticSegmentation(config)
    for parameter in theirs.parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter, mean=0.5, std=0.3)
    nn.init.normal_(theirs.decode_head.batch_norm.running_mean)
    nn.init.uniform_(theirs.decode_head.batch_norm.running_var, 0.5, 2.0)
    # Transformers 5 runs with torch's LayerNorm epsilon of 1e-5 everywhere, which is ours too.
    ours = SegFormer(variant, drop_path=0.0, dropout=0.0)
    load_into_ours(theirs.state_dict(), ours, folder)
    return theirs, ours


def load_into_ours(tensors: dict[str, Tensor], ours: SegFormer, folder: Path) -> None:
    """Load tensors with transformers' names into our network, through a file, as a user would."""
    torch.save(tensors, folder / "theirs.pth")
    load_model(ours, folder / "theirs.pth")


def random_images(size: tuple[int, int, int]) -> Tensor:
    """(b, 3, H, W), normal."""
    b, rows, columns = size
    return torch.randn(b, 3, rows, columns, generator=torch.Generator().manual_seed(1))


def score_difference(theirs: nn.Module, ours: nn.Module, images: Tensor) -> float:
    """The largest difference of the scores in evaluation, relative to the largest score."""
    with torch.no_grad():
        expected, actual = theirs.eval()(images).logits, ours.eval()(images)
    assert expected.shape == actual.shape
    return ((expected - actual).abs().max() / expected.abs().max()).item()


def gradient_differences(
    theirs: nn.Module, ours: SegFormer, images: Tensor, folder: Path
) -> dict[str, float]:
    """The largest difference of each parameter's gradient in training, relative to its largest.

    The networks are converted to double precision and stay so. If the loss does not depend on a
    parameter (a bias before a softmax or a norm), its gradient is pure rounding error: it is
    compared with 1e-8 of the largest gradient of the network.
    """
    theirs, ours, images = theirs.double(), ours.double(), images.double()
    theirs.train()(images).logits.square().mean().backward()
    ours.train()(images).square().mean().backward()
    # Their gradients take the way their weights took, so that equal tensors meet.
    gradients = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    expected = SegFormer(ours.variant).double()
    load_into_ours(theirs.state_dict() | gradients, expected, folder)
    expected_gradients = dict(expected.named_parameters())
    least = 1e-8 * max(gradient.abs().max() for gradient in expected_gradients.values())
    differences = {}
    for name, parameter in ours.named_parameters():
        assert parameter.grad is not None, name
        scale = expected_gradients[name].abs().max().clamp(min=least)
        differences[name] = ((expected_gradients[name] - parameter.grad).abs().max() / scale).item()
    return differences


@pytest.mark.parametrize("size", [ODD, BATCH], ids=str)
@pytest.mark.parametrize("variant", ["b0", "b2"])
def test_scores_equal_transformers(
    variant: str, size: tuple[int, int, int], tmp_path: Path
) -> None:
    """With equal weights the scores differ by less than 1e-5 of the largest score."""
    assert 1e-5 > score_difference(*make_networks(variant, tmp_path), random_images(size))


@pytest.mark.parametrize("size", [ODD, BATCH], ids=str)
def test_gradients_equal_transformers(size: tuple[int, int, int], tmp_path: Path) -> None:
    """In double precision every gradient agrees within 1e-5.

    In single precision two correct implementations differ by more: where the decoder's ReLU has an
    input near 0, rounding decides whether the whole gradient passes.
    """
    differences = gradient_differences(
        *make_networks("b0", tmp_path), random_images(size), tmp_path
    )
    assert 1e-5 > max(differences.values()), max(differences, key=differences.__getitem__)


def test_gradients_in_single_precision_are_as_exact_as_transformers(tmp_path: Path) -> None:
    """All gradients in float32 are about as close to the float64 ones as those of transformers."""
    networks, images = make_networks("b0", tmp_path), random_images(BATCH)
    distances = []
    for network in networks:
        exact = copy.deepcopy(network).train().double()
        gradients = []
        for network_copy, pixels in ((network.train(), images), (exact, images.double())):
            scores = network_copy(pixels)
            getattr(scores, "logits", scores).square().mean().backward()
            gradients.append(
                torch.cat([p.grad.double().flatten() for p in network_copy.parameters()])
            )
        actual, expected = gradients
        distances.append(((actual - expected).norm() / expected.norm()).item())
    of_theirs, of_ours = distances
    assert of_ours < 3 * of_theirs


@pytest.mark.slow
@pytest.mark.parametrize("size", [ODD, BATCH], ids=str)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_equals_transformers(
    variant: str, size: tuple[int, int, int], tmp_path: Path
) -> None:
    """B0 to B5: scores within 1e-5 in evaluation, every gradient within 1e-4 in training."""
    networks, images = make_networks(variant, tmp_path), random_images(size)
    assert 1e-5 > score_difference(*networks, images)
    differences = gradient_differences(*networks, images, tmp_path)
    assert 1e-4 > max(differences.values()), max(differences, key=differences.__getitem__)


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_equals_transformers_at_full_size(variant: str, tmp_path: Path) -> None:
    """The scores agree at 512x1024; the gradients of all variants are in docs/results.md.

    (In double precision they take minutes and 20 GiB; here B0 and B2 represent the two decoders.)
    """
    networks, images = make_networks(variant, tmp_path), random_images(FULL)
    assert 1e-5 > score_difference(*networks, images)
    if variant in ("b0", "b2"):
        differences = gradient_differences(*networks, images, tmp_path)
        assert 1e-4 > max(differences.values()), max(differences, key=differences.__getitem__)
