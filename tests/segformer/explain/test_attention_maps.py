import pytest
import torch
from torch import Tensor, nn

from segformer.explain.attention_maps import attention_input, attention_maps, attention_weights
from segformer.model.layers import Attention
from segformer.model.segformer import SegFormer


@pytest.fixture(scope="module")
def model() -> SegFormer:
    """A B0 whose attention is far from uniform."""
    torch.manual_seed(0)
    model = SegFormer("b0")
    for module in model.modules():
        if isinstance(module, Attention):
            nn.init.normal_(module.query.weight, std=0.3)
            nn.init.normal_(module.key_value.weight, std=0.3)
    return model


@pytest.fixture(scope="module")
def image() -> Tensor:
    """(3, 64, 101): no stride divides its columns."""
    return torch.randn(3, 64, 101, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("stage", range(4))
def test_weights_times_values_equal_the_layer_output(
    model: SegFormer, image: Tensor, stage: int
) -> None:
    """The weights are those of `forward`: with the values they give its very output."""
    model.eval()
    with torch.no_grad():
        layer, grid = attention_input(model.encoder, image[None], stage=stage, block=1)
        weights = attention_weights(layer, grid).flatten(3)  # (1, a, n, m)
        _, _, value = layer.project(grid)
        mixed = (weights @ value).transpose(1, 2).reshape(grid.shape)
        torch.testing.assert_close(layer(grid), layer.output(mixed), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("stage", "block"), [(0, 0), (1, 1), (2, 0), (3, -1)])
def test_attention_input_equals_that_of_a_forward_pass(
    model: SegFormer, image: Tensor, stage: int, block: int
) -> None:
    """A hook on the layer in a forward pass records the same input."""
    model.eval()
    layer = model.encoder.stages[stage].blocks[block].attention
    recorded = []
    handle = layer.register_forward_pre_hook(lambda _layer, inputs: recorded.append(inputs[0]))
    with torch.no_grad():
        model(image[None])
        handle.remove()
        attention, grid = attention_input(model.encoder, image[None], stage=stage, block=block)
    assert layer is attention
    assert torch.equal(recorded[0], grid)


@pytest.mark.parametrize("stage", range(4))
def test_weights_of_each_head_sum_to_one(model: SegFormer, image: Tensor, stage: int) -> None:
    """For any query the weights of all keys sum to 1 for each head, and none is negative."""
    region = torch.zeros(64, 101, dtype=torch.bool)
    region[3:50, 60:] = True
    for query in ((0, 0), (63, 100), region):
        maps = attention_maps(model, image, query, stage=stage)
        assert ((1, 2, 5, 8)[stage], 2, (3, 3, 3, 4)[stage]) == maps.shape
        torch.testing.assert_close(torch.ones(len(maps)), maps.sum((1, 2)))
        assert 0 <= maps.min()


def test_pixel_uses_its_token(model: SegFormer, image: Tensor) -> None:
    """Row 41 and column 90 are in token 5, 11 of the stage with stride 8."""
    model.eval()
    with torch.no_grad():
        layer, grid = attention_input(model.encoder, image[None], stage=1, block=0)
        expected = attention_weights(layer, grid)[0, :, 5 * grid.shape[2] + 11]
    actual = attention_maps(model, image, (41, 90), stage=1, block=0)
    torch.testing.assert_close(expected, actual)


def test_region_is_the_mean_over_its_pixels(model: SegFormer, image: Tensor) -> None:
    """The map of a region is the mean of the maps of its pixels."""
    region = torch.zeros(64, 101, dtype=torch.bool)
    region[30:34, 98:] = True  # across four tokens, with 2 to 4 pixels in each
    expected = torch.stack(
        [
            attention_maps(model, image, (int(row), int(column)), stage=0)
            for row, column in region.nonzero()
        ]
    ).mean(0)
    torch.testing.assert_close(expected, attention_maps(model, image, region, stage=0))


def test_query_chunks_do_not_change_the_result(
    model: SegFormer, image: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The result is the same for any chunk size."""
    everything = torch.ones(64, 101, dtype=torch.bool)
    expected = attention_maps(model, image, everything, stage=1)
    monkeypatch.setattr("segformer.explain.attention_maps._QUERY_CHUNK", 7)
    torch.testing.assert_close(expected, attention_maps(model, image, everything, stage=1))


def test_queries_differ(model: SegFormer, image: Tensor) -> None:
    """Two pixels have different maps: the attention is that of a query, not of a key."""
    maps = [attention_maps(model, image, query, stage=1) for query in ((0, 0), (60, 90))]
    assert 0.01 < (maps[0] - maps[1]).abs().max()


def test_model_is_not_changed(model: SegFormer, image: Tensor) -> None:
    """The mode of a model in training is restored, and no path is dropped."""
    model.train()
    first = attention_maps(model.encoder, image, (3, 3), stage=3)
    assert model.encoder.training
    assert model.encoder.stages[0].training
    assert torch.equal(first, attention_maps(model, image, (3, 3), stage=3))


@pytest.mark.parametrize(
    ("query", "stage", "block", "message"),
    [
        ((0, 0), 4, 0, "stage 4 does not exist; choose from 0 to 3"),
        ((0, 0), 1, 2, "stage 1 of b0 has no block 2; choose from 0 to 1"),
        ((64, 0), 0, 0, "pixel 64, 0 is not in the image"),
        ((0, -1), 0, 0, "pixel 0, -1 is not in the image"),
        (torch.zeros(64, 101), 0, 0, "with 0 pixels"),
        (torch.ones(64, 100), 0, 0, r"give a \(64, 101\) mask"),
    ],
)
def test_missing_stages_blocks_and_pixels_are_refused(
    model: SegFormer,
    image: Tensor,
    query: tuple[int, int] | Tensor,
    stage: int,
    block: int,
    message: str,
) -> None:
    """The message has the requested and the existing ones."""
    with pytest.raises(ValueError, match=message):
        attention_maps(model, image, query, stage=stage, block=block)


def test_batch_is_refused(model: SegFormer, image: Tensor) -> None:
    """One image at a time: a query is a position in one image."""
    with pytest.raises(
        ValueError, match=r"image is \(1, 3, 64, 101\); give a single image, \(3, H, W\)"
    ):
        attention_maps(model, image[None], (0, 0), stage=0)
