from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from segformer.data.augment import NUM_RANDOM, Augment
from segformer.data.loader import BatchLoader, Residency
from segformer.data.packed_frames import PackedFrames, create
from segformer.data.sampling import shuffled
from tests.reference.crops import augment_with
from tests.segformer.data.test_prefetch import num_threads

AUGMENT = Augment((12, 20))
CPU = torch.device("cpu")
NUM_FRAMES, BATCH = 7, 4


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> PackedFrames:
    """Seven noisy frames on disk, of 16 x 24 pixels."""
    folder = tmp_path_factory.mktemp("pack") / "train"
    generator = np.random.default_rng(0)
    with create(folder, [f"frame {i}" for i in range(NUM_FRAMES)], (16, 24)) as (images, labels):
        images[:] = generator.integers(0, 256, images.shape)
        labels[:] = generator.integers(0, 19, labels.shape)
    return PackedFrames.open(folder)


def batches(frames: PackedFrames, seed: int = 3, **settings: object) -> BatchLoader:
    """Batches of four."""
    order = shuffled(NUM_FRAMES, BATCH, seed)
    return BatchLoader(frames, order, AUGMENT, seed=seed, device=CPU, **settings)


def taken(source: Iterator[tuple[Tensor, Tensor]], count: int) -> list[bytes]:
    """The bytes of the next batches."""
    return [
        b"".join(tensor.numpy().tobytes() for tensor in batch) for batch in islice(source, count)
    ]


def test_a_batch_is_the_frames_of_the_order_cut_by_the_seed(frames: PackedFrames) -> None:
    """The third batch, put together by hand from the frames, the order and the draws."""
    indices = shuffled(NUM_FRAMES, BATCH, 3)(2)
    draws = np.random.default_rng((3, 2, 2)).random((BATCH, NUM_RANDOM))
    expected = augment_with(AUGMENT, frames.images[indices], frames.labels[indices], draws)
    pixels, target = next(batches(frames)(2))
    assert ((BATCH, 3, 12, 20), torch.float32) == (pixels.shape, pixels.dtype)
    assert ((BATCH, 12, 20), torch.int64) == (target.shape, target.dtype)
    assert torch.equal(expected[0], pixels)
    assert torch.equal(expected[1], target)


def test_a_training_may_go_on_at_any_update(frames: PackedFrames) -> None:
    """What comes after three updates is the same bytes whether they were made here or not."""
    assert taken(batches(frames)(0), 6)[3:] == taken(batches(frames)(3), 3)


def test_the_same_batches_wherever_the_frames_lie(frames: PackedFrames) -> None:
    """On the device whole or read as they are needed: the same bytes."""
    here, there = (batches(frames, residency=residency) for residency in ("host", "device"))
    assert ("host", "device") == (here.residency, there.residency)
    assert taken(here(0), 4) == taken(there(0), 4)


@pytest.mark.parametrize(("residency", "expected"), [("auto", "host"), ("device", "device")])
def test_a_cpu_leaves_the_frames_where_they_are(
    frames: PackedFrames, residency: Residency, expected: str
) -> None:
    """Unless it is told to read them all."""
    assert expected == batches(frames, residency=residency).residency


@pytest.mark.parametrize("count", [2, 4])
def test_processes_share_what_one_would_take(frames: PackedFrames, count: int) -> None:
    """Their parts, one after the other, are the batch of a single process, byte for byte."""
    expected = next(islice(batches(frames)(0), 1, 2))
    parts = [next(batches(frames, shard=(i, count))(1)) for i in range(count)]
    for whole, pieces in zip(expected, zip(*parts, strict=True), strict=True):
        assert torch.equal(whole, torch.cat(pieces))


def test_a_batch_that_cannot_be_shared_is_refused(frames: PackedFrames) -> None:
    """Four frames for three processes."""
    with pytest.raises(ValueError, match=r"batch of 4 .* between 3 processes; .* a multiple of 3"):
        batches(frames, shard=(0, 3))


def test_the_seed_decides_the_crops(frames: PackedFrames) -> None:
    """The same seed gives the same bytes whatever the global one is, another seed others."""
    torch.manual_seed(5)
    one = taken(batches(frames)(0), 2)
    torch.manual_seed(6)
    assert one == taken(batches(frames)(0), 2)
    assert not set(one) & set(taken(batches(frames, seed=4)(0), 2))


def test_making_batches_leaves_the_global_generator_alone(frames: PackedFrames) -> None:
    """Dropout in a resumed training draws what it would have drawn."""
    before = torch.get_rng_state()
    taken(batches(frames)(0), 2)
    assert torch.equal(before, torch.get_rng_state())


def test_a_batch_may_be_changed(frames: PackedFrames) -> None:
    """It is nobody else's: what comes next does not change with it."""
    source = batches(frames, residency="device")
    expected = taken(source(0), 3)
    for i, (pixels, target) in enumerate(islice(source(0), 3)):
        assert expected[i] == pixels.numpy().tobytes() + target.numpy().tobytes()
        pixels.zero_()
        target.zero_()


def test_the_frames_of_an_update_have_names(frames: PackedFrames) -> None:
    """The first update is step 1; its frames are all those of the batch, whatever the share."""
    indices = shuffled(NUM_FRAMES, BATCH, 3)(4)
    expected = [f"frame {i}" for i in indices]
    assert expected == batches(frames, shard=(1, 2)).frame_names(5)


def test_waiting_is_counted(frames: PackedFrames) -> None:
    """The first batch is always waited for."""
    source = batches(frames)
    assert 0 == source.wait_seconds
    next(source(0))
    assert 0 < source.wait_seconds < 60


def test_no_thread_is_left(frames: PackedFrames) -> None:
    """Neither when the iterator is closed, nor when it is dropped."""
    closed, dropped = batches(frames)(0), batches(frames)(0)
    next(closed)
    next(dropped)
    assert 2 == num_threads()
    closed.close()
    del dropped
    assert 0 == num_threads()


def test_an_error_while_making_a_batch_reaches_the_caller(tmp_path: Path) -> None:
    """Frames that the order names and that are not there, found in the thread."""
    images = np.zeros((2, 16, 24, 3), np.uint8)
    source = BatchLoader(
        PackedFrames(images, images[..., 0], ["a", "b"]),
        lambda updates: np.array([updates]),
        AUGMENT,
        seed=0,
        device=CPU,
    )(1)
    next(source)
    with pytest.raises(IndexError, match="2 is out of bounds"):
        next(source)
