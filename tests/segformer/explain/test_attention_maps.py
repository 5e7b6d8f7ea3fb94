import pytest
import torch
from torch import Tensor
from transformers import SegformerForSemanticSegmentation

from segformer.explain.attention_maps import AttentionRecord, attention_maps, record_attention
from segformer.export.hugging_face import write_hugging_face
from segformer.model.encoder import Encoder
from segformer.model.layers import Attention
from segformer.model.segformer import SegFormer
from segformer.model.variants import HEADS
from tests.segformer.explain.networks import odd_image, sharp_model

STRIDES = (4, 8, 16, 32)


@pytest.fixture(scope="module")
def model() -> SegFormer:
    """A B0 whose attention is far from uniform."""
    return sharp_model()


@pytest.fixture(scope="module")
def image() -> Tensor:
    """(3, 64, 101): no stride divides its columns."""
    return odd_image()


@pytest.fixture(scope="module")
def record(model: SegFormer, image: Tensor) -> AttentionRecord:
    """The attention of the image."""
    return record_attention(model, image)


@pytest.fixture(scope="module")
def transformers_model(
    model: SegFormer, tmp_path_factory: pytest.TempPathFactory
) -> SegformerForSemanticSegmentation:
    """The same weights in transformers, which returns attention weights in eager mode only."""
    folder = tmp_path_factory.mktemp("hub")
    write_hugging_face(model, folder, size=(64, 101))
    theirs = SegformerForSemanticSegmentation.from_pretrained(folder, attn_implementation="eager")
    return theirs.eval()


@pytest.mark.parametrize("size", [(64, 101), (96, 64), (33, 40)], ids=str)
def test_all_weights_equal_transformers(
    model: SegFormer, transformers_model: SegformerForSemanticSegmentation, size: tuple[int, int]
) -> None:
    """Every weight of every stage, block and head is that of transformers, for odd sizes too."""
    image = torch.randn(3, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        theirs = transformers_model(image[None], output_attentions=True)
    record = record_attention(model, image)
    ours = [layer for blocks in record.stages for layer in blocks]
    assert len(theirs.attentions) == len(ours) == sum(record.depths)
    for expected, layer in zip(theirs.attentions, ours, strict=True):
        actual = torch.cat([weights for _, weights in layer.iter_weights()], dim=1)
        torch.testing.assert_close(expected[0], actual, atol=1e-5, rtol=1e-4)
    assert record.scores is not None
    torch.testing.assert_close(theirs.logits[0], record.scores, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("block", [0, 1])
@pytest.mark.parametrize("stage", range(4))
def test_rows_and_columns_of_a_pixel_equal_transformers(
    image: Tensor,
    record: AttentionRecord,
    transformers_model: SegformerForSemanticSegmentation,
    stage: int,
    block: int,
) -> None:
    """Pixel 41, 70: the row of its token; the column of its key times the number of keys."""
    with torch.no_grad():
        theirs = transformers_model(image[None], output_attentions=True)
    weights = theirs.attentions[2 * stage + block][0]  # (a, n, m)
    columns = -(-101 // STRIDES[stage])
    token = 41 // STRIDES[stage] * columns + 70 // STRIDES[stage]
    num_key_columns = (3, 3, 3, 4)[stage]
    key = 41 // 32 * num_key_columns + 70 // 32
    looks_at = record.looks_at((41, 70), stage=stage, block=block)
    looked_at = record.looked_at((41, 70), stage=stage, block=block)
    assert (HEADS[stage], 2, num_key_columns) == looks_at.shape
    assert (HEADS[stage], 64 // STRIDES[stage], columns) == looked_at.shape
    torch.testing.assert_close(weights[:, token], looks_at.flatten(1), atol=1e-5, rtol=1e-4)
    expected = weights[:, :, key] * weights.shape[2]
    torch.testing.assert_close(expected, looked_at.flatten(1), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("stage", range(4))
def test_weights_times_values_equal_the_layer_output(
    model: SegFormer, image: Tensor, record: AttentionRecord, stage: int
) -> None:
    """The weights are those of `forward`: with the values they give its very output."""
    layer = model.get_submodule(f"encoder.stages.{stage}.blocks.1.attention")
    assert isinstance(layer, Attention)
    passed: list[Tensor] = []
    handle = layer.output.register_forward_pre_hook(lambda _, inputs: passed.append(inputs[0]))
    values: list[Tensor] = []
    other = layer.key_value.register_forward_hook(lambda *args: values.append(args[2]))
    model.eval()
    with torch.no_grad():
        model(image[None])
    handle.remove()
    other.remove()
    _, value = values[0].flatten(1, 2).unflatten(2, (2, layer.heads, -1)).permute(2, 0, 3, 1, 4)
    block = record.block(stage, 1)
    weights = torch.cat([weights for _, weights in block.iter_weights()], dim=1)
    mixed = (weights @ value[0]).transpose(0, 1).flatten(1)
    torch.testing.assert_close(passed[0].flatten(1, 2)[0], mixed, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("stage", range(4))
def test_weights_of_each_head_sum_to_one(record: AttentionRecord, stage: int) -> None:
    """For any place the weights of all keys sum to 1 for each head, and none is negative."""
    region = torch.zeros(64, 101, dtype=torch.bool)
    region[3:50, 60:] = True
    for place in ((0, 0), (63, 100), region, None):
        maps = record.looks_at(place, stage=stage)
        torch.testing.assert_close(torch.ones(len(maps)), maps.sum((1, 2)))
        assert 0 <= maps.min()


@pytest.mark.parametrize("stage", range(4))
def test_multiples_of_a_query_average_to_one(record: AttentionRecord, stage: int) -> None:
    """The mean over all keys is 1 for every query: the reason why None is refused."""
    rows, columns = record.block(stage).key_size
    maps = [
        record.looked_at((32 * row, 32 * column), stage=stage)
        for row in range(rows)
        for column in range(columns)
    ]
    torch.testing.assert_close(torch.ones_like(maps[0]), torch.stack(maps).mean(0))
    with pytest.raises(ValueError, match="the mean over all keys is 1 for every query"):
        record.looked_at(None, stage=stage)


def test_region_is_the_mean_over_its_pixels(record: AttentionRecord) -> None:
    """Both maps of a region are the means of the maps of its pixels."""
    region = torch.zeros(64, 101, dtype=torch.bool)
    region[30:34, 92:96] = True  # across two tokens of the first stage and two keys
    pixels = [(int(row), int(column)) for row, column in region.nonzero()]
    for method in (record.looks_at, record.looked_at):
        expected = torch.stack([method(pixel, stage=0) for pixel in pixels]).mean(0)
        torch.testing.assert_close(expected, method(region, stage=0))


def test_mean_is_over_all_queries_equally(record: AttentionRecord) -> None:
    """None is the plain mean over the queries, though the last column covers less of the image."""
    layer = record.block(1)
    weights = torch.cat([weights for _, weights in layer.iter_weights()], dim=1)
    expected = weights.mean(1).unflatten(1, layer.key_size)
    torch.testing.assert_close(expected, record.looks_at(None, stage=1))


def test_place_without_a_key_is_refused(record: AttentionRecord) -> None:
    """Columns 96 to 100 are in no key; the pixels of a region that lie there do not count."""
    with pytest.raises(
        ValueError,
        match=r"in no key of this stage; the keys cover rows 0 to 63 and columns 0 to 95",
    ):
        record.looked_at((3, 97), stage=0)
    region = torch.zeros(64, 101, dtype=torch.bool)
    region[:, 80:] = True
    expected = record.looked_at(region & (torch.arange(101) < 96), stage=0)
    torch.testing.assert_close(expected, record.looked_at(region, stage=0))


def test_chunks_do_not_change_the_result(
    record: AttentionRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The result is the same for any chunk size, down to one query."""
    expected = record.looks_at(None, stage=1), record.looked_at((0, 0), stage=1)
    monkeypatch.setattr("segformer.explain.block_attention._CHUNK_WEIGHTS", 1)
    torch.testing.assert_close(
        expected, (record.looks_at(None, stage=1), record.looked_at((0, 0), stage=1))
    )


def test_network_runs_once(model: SegFormer, image: Tensor) -> None:
    """A single pass through the encoder, and no hook is left on the model."""
    calls: list[None] = []
    handle = model.encoder.register_forward_hook(lambda *_: calls.append(None))
    record = record_attention(model, image)
    record.looks_at(None, stage=0)
    handle.remove()
    assert 1 == len(calls)
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_encoder_has_no_scores(model: SegFormer, image: Tensor, record: AttentionRecord) -> None:
    """An encoder alone gives the same attention, and no scores."""
    encoder = model.encoder
    assert isinstance(encoder, Encoder)
    of_encoder = record_attention(encoder, image)
    assert of_encoder.scores is None
    assert ((2, 2, 2, 2), (64, 101)) == (of_encoder.depths, of_encoder.image_size)
    assert torch.equal(record.looks_at((5, 5), stage=3), of_encoder.looks_at((5, 5), stage=3))


def test_attention_maps_are_rows_of_the_record(
    model: SegFormer, image: Tensor, record: AttentionRecord
) -> None:
    """The function for a single map gives that of the record."""
    expected = record.looks_at((41, 90), stage=1, block=0)
    assert torch.equal(expected, attention_maps(model, image, (41, 90), stage=1, block=0))


def test_model_is_not_changed(model: SegFormer, image: Tensor) -> None:
    """The mode of a model in training is restored, and no path is dropped."""
    model.train()
    first = attention_maps(model.encoder, image, (3, 3), stage=3)
    assert model.encoder.training
    assert model.encoder.stages[0].training
    assert torch.equal(first, attention_maps(model, image, (3, 3), stage=3))


@pytest.mark.parametrize(
    ("place", "stage", "block", "message"),
    [
        ((0, 0), 4, 0, "stage 4 does not exist; choose from 0 to 3"),
        ((0, 0), -1, 0, "stage -1 does not exist"),
        ((0, 0), 1, 2, "stage 1 has no block 2; choose from 0 to 1, or -1 for the last"),
        ((64, 0), 0, 0, "pixel 64, 0 is not in the image"),
        ((0, -1), 0, 0, "pixel 0, -1 is not in the image"),
        (torch.zeros(64, 101), 0, 0, "with 0 pixels"),
        (torch.ones(64, 100), 0, 0, r"give a \(64, 101\) mask"),
    ],
)
def test_missing_stages_blocks_and_pixels_are_refused(
    record: AttentionRecord,
    place: tuple[int, int] | Tensor,
    stage: int,
    block: int,
    message: str,
) -> None:
    """The message has the requested and the existing ones."""
    for method in (record.looks_at, record.looked_at):
        with pytest.raises(ValueError, match=message):
            method(place, stage=stage, block=block)


def test_batch_is_refused(model: SegFormer, image: Tensor) -> None:
    """One image at a time: a place is in one image."""
    with pytest.raises(
        ValueError, match=r"image is \(1, 3, 64, 101\); give a single image, \(3, H, W\)"
    ):
        record_attention(model, image[None])
