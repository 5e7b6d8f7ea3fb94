import copy
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from segformer.interop import load_model
from segformer.model import SegFormer
from segformer.variants import get_variant


@cache
def reference(variant: str, folder: str) -> tuple[nn.Module, SegFormer]:
    """Transformers' network with every tensor drawn at random, and ours with the same weights."""
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
    path = f"{folder}/{variant}.pth"
    torch.save(theirs.state_dict(), path)
    # Transformers 5 runs with torch's LayerNorm epsilon of 1e-5 everywhere, which is ours too.
    ours = SegFormer(variant, drop_path=0.0, dropout=0.0)
    load_model(ours, Path(path))
    return theirs, ours


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A place for the weights that both networks share."""
    return str(tmp_path_factory.mktemp("reference"))


@pytest.mark.parametrize(
    ("variant", "rows", "columns"), [("b0", 64, 96), ("b0", 97, 131), ("b2", 64, 96)]
)
def test_scores_equal_transformers(variant: str, rows: int, columns: int, folder: str) -> None:
    """With equal weights the scores differ by less than 1e-5 of the largest one."""
    theirs, ours = reference(variant, folder)
    images = torch.randn(2, 3, rows, columns, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = theirs.eval()(images).logits
        scores = ours.eval()(images)
    assert expected.shape == scores.shape
    assert 1e-5 > (expected - scores).abs().max() / expected.abs().max()


def test_gradients_equal_transformers(folder: str, tmp_path: Path) -> None:
    """In training every tensor gets the gradient that transformers computes (double precision)."""
    theirs, ours = (copy.deepcopy(network).double() for network in reference("b0", folder))
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1)).double()
    theirs.train()(images).logits.square().mean().backward()
    ours.train()(images).square().mean().backward()
    # Their gradients take the way their weights took, so that equal tensors meet.
    gradients = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    torch.save(theirs.state_dict() | gradients, tmp_path / "gradients.pth")
    expected = SegFormer("b0").double()
    load_model(expected, tmp_path / "gradients.pth")
    wanted = dict(expected.named_parameters())
    largest = max(gradient.abs().max() for gradient in wanted.values())
    for name, parameter in ours.named_parameters():
        assert parameter.grad is not None, name
        # A bias before a BatchNorm has no gradient but rounding.
        scale = max(wanted[name].abs().max(), 1e-6 * largest)
        assert 1e-6 > (wanted[name] - parameter.grad).abs().max() / scale, name


def test_scores_have_a_quarter_of_any_size() -> None:
    """Rows and columns of the scores are the image's divided by 4, rounded up."""
    model = SegFormer("b0", num_classes=5).eval()
    assert (1, 5, 9, 17) == model(torch.randn(1, 3, 33, 65)).shape


def test_the_decoder_may_have_another_width() -> None:
    """`decoder_width` replaces the variant's own."""
    model = SegFormer("b0", decoder_width=24)
    assert 24 == model.decoder_width
    assert (24, 96, 1, 1) == model.decoder.mix.weight.shape


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"variant": "b6"}, "unknown variant 'b6'"),
        ({"num_classes": 0}, "num_classes is 0; it must be 1 or more"),
        ({"decoder_width": -1}, "decoder_width is -1; it must be 1 or more"),
        ({"drop_path": 1.0}, "drop_path is 1.0; it must be at least 0 and less than 1"),
        ({"dropout": -0.1}, "dropout is -0.1; it must be at least 0 and less than 1"),
    ],
)
def test_impossible_values_are_refused(values: dict[str, object], message: str) -> None:
    """What cannot be built is a ValueError that says what is allowed."""
    with pytest.raises(ValueError, match=message):
        SegFormer(**values)


def test_half_precision_autocast_gives_close_scores() -> None:
    """Under bf16 autocast both modes run, and evaluation agrees with float32 as far as it can."""
    torch.manual_seed(0)
    model, images = SegFormer("b0").eval(), torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = model(images)
        with torch.autocast("cpu", torch.bfloat16):
            scores = model(images).float()
    assert 0.1 > (expected - scores).abs().max() / expected.abs().max()
    with torch.autocast("cpu", torch.bfloat16):
        model.train()(torch.randn(2, 3, 64, 96)).float().mean().backward()
