import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segformer.model import cpu_kernels
from segformer.model.decoder import MlpDecoder, iter_sum_resized, sum_resized

WIDTHS = (4, 6, 8, 10)


def random_decoder(width: int = 12) -> MlpDecoder:
    """A decoder with every weight, bias and batch statistic drawn at random."""
    torch.manual_seed(0)
    decoder = MlpDecoder(WIDTHS, width, 5, dropout=0.0)
    for parameter in decoder.parameters():
        nn.init.normal_(parameter)
    nn.init.normal_(decoder.norm.running_mean)
    nn.init.uniform_(decoder.norm.running_var, 0.5, 2.0)
    return decoder


def random_maps(rows: int = 13, columns: int = 9) -> list[Tensor]:
    """Four maps, each half as large as the one before, rounded up."""
    maps = []
    for width in WIDTHS:
        maps.append(torch.randn(2, rows, columns, width))
        rows, columns = -(-rows // 2), -(-columns // 2)
    return maps


def published_decoder(decoder: MlpDecoder, maps: list[Tensor]) -> Tensor:
    """The order of the paper: unify, resize, stack coarsest first, mix, normalize, classify."""
    size = maps[0].shape[1:3]
    resized = [
        F.interpolate(linear(grid).permute(0, 3, 1, 2), size, mode="bilinear")
        for linear, grid in zip(decoder.unify, maps, strict=True)
    ]
    mixed = decoder.mix(torch.cat(resized[::-1], dim=1))
    return decoder.classify(F.relu(decoder.norm(mixed)))


@pytest.mark.parametrize(("rows", "columns"), [(8, 16), (13, 9), (40, 8), (1, 1)])
def test_evaluation_equals_the_published_order(rows: int, columns: int) -> None:
    """Multiplied and folded matrices, in bands, score as the paper's layers at any size."""
    decoder, maps = random_decoder().eval(), random_maps(rows, columns)
    expected = published_decoder(decoder, maps)
    difference = (expected - decoder(maps)).abs().max() / expected.abs().max()
    assert 1e-5 > difference


def test_training_equals_the_published_order() -> None:
    """Scores and running statistics with batch statistics equal those of the paper's layers."""
    decoder, other, maps = random_decoder().train(), random_decoder().train(), random_maps()
    expected, scores = published_decoder(other, maps), decoder(maps)
    assert 1e-5 > (expected - scores).abs().max() / expected.abs().max()
    torch.testing.assert_close(other.norm.running_mean, decoder.norm.running_mean)
    torch.testing.assert_close(other.norm.running_var, decoder.norm.running_var)


@pytest.mark.parametrize("training", [True, False])
def test_gradients_equal_the_published_order(training: bool) -> None:
    """Every parameter has the gradient of the paper's layers."""
    gradients = []
    for function in (published_decoder, MlpDecoder.__call__):
        decoder = random_decoder().train(training)
        function(decoder, random_maps()).square().mean().backward()
        gradients.append({name: p.grad for name, p in decoder.named_parameters()})
    expected, actual = gradients
    largest = max(gradient.abs().max() for gradient in expected.values())
    for name, gradient in expected.items():
        assert 1e-5 > (gradient - actual[name]).abs().max() / largest, name


@pytest.mark.parametrize("rows", [1, 3, 8, 100])
def test_band_size_does_not_change_the_result(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bands of any size give the same sum, concatenated or added in place."""
    maps = random_maps(29, 9)
    matrices, bias = [torch.randn(12, width) for width in WIDTHS], torch.randn(12)
    size = maps[0].shape[1:3]
    parts = [
        F.interpolate((grid @ matrix.T).permute(0, 3, 1, 2), size, mode="bilinear")
        for grid, matrix in zip(maps, matrices, strict=True)
    ]
    expected = torch.stack(parts).sum(0).permute(0, 2, 3, 1) + bias
    monkeypatch.setattr(cpu_kernels, "_DECODER_ROWS", rows)
    bands = torch.cat(list(iter_sum_resized(maps, matrices, bias)), dim=1)
    torch.testing.assert_close(expected, bands, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(expected, sum_resized(maps, matrices, bias), atol=1e-4, rtol=1e-5)


def test_inputs_are_not_modified() -> None:
    """In-place additions never change the input maps."""
    decoder, maps = random_decoder().eval(), random_maps()
    before = [grid.clone() for grid in maps]
    decoder(maps)
    assert all(torch.equal(old, new) for old, new in zip(before, maps, strict=True))


def test_dropout_is_active_in_training_only() -> None:
    """Two passes differ in training and agree in evaluation."""
    torch.manual_seed(0)
    decoder, maps = MlpDecoder(WIDTHS, 12, 5, dropout=0.5), random_maps()
    assert not torch.equal(decoder(maps), decoder(maps))
    decoder.eval()
    assert torch.equal(decoder(maps), decoder(maps))
