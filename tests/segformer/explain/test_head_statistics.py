import math

import pytest
import torch
from torch import Tensor

from segformer.cityscapes import IGNORE
from segformer.explain.attention_maps import AttentionRecord, record_attention
from segformer.explain.block_attention import BlockAttention
from segformer.explain.head_statistics import HeadStatistics, head_statistics
from tests.segformer.explain.networks import odd_image, sharp_model


@pytest.fixture(scope="module")
def record() -> AttentionRecord:
    """The attention of a (64, 101) image."""
    return record_attention(sharp_model(), odd_image())


@pytest.fixture(scope="module")
def labels() -> Tensor:
    """(64, 101): classes 0, 1 and 3 in blobs that cross the keys, some void; no class 2."""
    labels = torch.zeros(64, 101, dtype=torch.int64)
    labels[10:50, 40:70] = 1
    labels[50:, 80:] = 3
    labels[:20, :25] = IGNORE
    return labels


@pytest.fixture(scope="module")
def statistics(record: AttentionRecord, labels: Tensor) -> list[HeadStatistics]:
    """The statistics of all blocks."""
    return head_statistics(record, labels, num_classes=4)


@pytest.mark.parametrize("index", range(8))
def test_statistics_equal_loops(
    record: AttentionRecord, labels: Tensor, statistics: list[HeadStatistics], index: int
) -> None:
    """Query by query, key by key and class by class, straight from the definitions."""
    actual, layer = statistics[index], record.block(index // 2, index % 2)
    assert (index // 2, index % 2) == (actual.stage, actual.block)
    logits = (layer.query.double() @ layer.key.double().transpose(1, 2)) / math.sqrt(32)
    weights = logits.softmax(2)  # (a, n, m)
    heads, n, m = weights.shape
    mass, share = torch.zeros(heads, 4), torch.zeros(4)
    distance, entropy = torch.zeros(heads), torch.zeros(heads)
    for j in range(m):
        top, left = j // layer.key_size[1] * 32, j % layer.key_size[1] * 32
        cell = labels[top : top + 32, left : left + 32]
        for k in range(4):
            part = (cell == k).sum() / 32**2
            share[k] += part
            mass[:, k] += weights[:, :, j].mean(1) * part
        for i in range(n):
            stride = layer.query_stride
            row, column = ((x + 0.5) * stride for x in divmod(i, layer.query_size[1]))
            length = math.hypot(row - (top + 16), column - (left + 16)) / 101
            distance += weights[:, i, j] * length / n
            entropy -= weights[:, i, j] * weights[:, i, j].log() / math.log(m) / n
    torch.testing.assert_close(share / share.sum(), actual.key_share)
    torch.testing.assert_close(mass / mass.sum(1, keepdim=True), actual.attended)
    torch.testing.assert_close(distance, actual.distance)
    torch.testing.assert_close(entropy, actual.entropy)


def test_shares_sum_to_one_without_void(statistics: list[HeadStatistics]) -> None:
    """Void is left out of the shares; a missing class has share 0 and lift nan."""
    for block in statistics:
        torch.testing.assert_close(torch.ones(()), block.key_share.sum())
        torch.testing.assert_close(torch.ones(len(block.attended)), block.attended.sum(1))
        assert 0 == block.key_share[2] == block.attended[:, 2].max()
        assert [False, False, True, False] == block.lift.isnan().any(0).tolist()


def test_uniform_attention(labels: Tensor) -> None:
    """Equal weights: lift 1 for every class, entropy 1, and the mean distance of all pairs."""
    layer = BlockAttention(
        query=torch.zeros(1, 4, 8),
        key=torch.randn(1, 2, 8),
        query_size=(2, 2),
        key_size=(1, 2),
        query_stride=50,
        key_stride=50,
    )
    record = AttentionRecord(depths=(1,), image_size=(64, 101), scores=None, stages=((layer,),))
    (block,) = head_statistics(record, labels, num_classes=4)
    torch.testing.assert_close(torch.ones(2), block.lift[0, :2])
    torch.testing.assert_close(torch.ones(1), block.entropy)
    # Centers 50 apart: per query 0, 1, 1 or sqrt(2) of them; keys are the upper two cells.
    expected = (0 + 1 + 1 + math.sqrt(2)) / 4 * 50 / 101
    assert expected == pytest.approx(block.distance.item())


def test_head_that_looks_at_a_single_key(labels: Tensor) -> None:
    """All weight on the left key: entropy 0, and the classes of that key's pixels."""
    layer = BlockAttention(
        query=torch.full((1, 2, 1), 100.0),
        key=torch.tensor([[[1.0], [0.0]]]),
        query_size=(1, 2),
        key_size=(1, 2),
        query_stride=50,
        key_stride=50,
    )
    record = AttentionRecord(depths=(1,), image_size=(64, 101), scores=None, stages=((layer,),))
    (block,) = head_statistics(record, labels, num_classes=4)
    labeled = labels[:50, :50][labels[:50, :50] != IGNORE]
    expected = torch.bincount(labeled, minlength=4) / len(labeled)
    torch.testing.assert_close(expected[None], block.attended)
    assert 0 == pytest.approx(block.entropy.item(), abs=1e-6)
    assert 25 / 101 == pytest.approx(block.distance.item())


def test_single_key_has_entropy_one() -> None:
    """An image of 33 x 40 pixels has one key in stages 0 to 2: its attention is uniform."""
    image = torch.randn(3, 33, 40, generator=torch.Generator().manual_seed(2))
    blocks = head_statistics(
        record_attention(sharp_model(), image), torch.zeros(33, 40, dtype=torch.int64)
    )
    assert [1.0] * 6 == [float(block.entropy.min()) for block in blocks[:6]]
    assert 1 > blocks[6].entropy.max()


def test_chunks_do_not_change_the_statistics(
    record: AttentionRecord,
    labels: Tensor,
    statistics: list[HeadStatistics],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The result is the same for chunks of any size."""
    monkeypatch.setattr("segformer.explain.block_attention._CHUNK_WEIGHTS", 50)
    for expected, actual in zip(statistics, head_statistics(record, labels, 4), strict=True):
        torch.testing.assert_close(expected.attended, actual.attended)
        torch.testing.assert_close(expected.distance, actual.distance)
        torch.testing.assert_close(expected.entropy, actual.entropy)


def test_bad_labels_are_refused(record: AttentionRecord) -> None:
    """Labels of another size, and labels without any class under a key."""
    with pytest.raises(ValueError, match=r"labels are \(64, 100\), the image is \(64, 101\)"):
        head_statistics(record, torch.zeros(64, 100, dtype=torch.int64))
    void = torch.full((64, 101), IGNORE)
    void[:, 97:] = 0
    with pytest.raises(ValueError, match="void in rows 0 to 63 and columns 0 to 95"):
        head_statistics(record, void)
