from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from segformer.data.augment import NUM_RANDOM, Augment
from segformer.data.loader import BatchLoader, Residency, to_device
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


def make_loader(frames: PackedFrames, seed: int = 3, **settings: object) -> BatchLoader:
    """A loader of batches of four."""
    order = shuffled(NUM_FRAMES, BATCH, seed)
    return BatchLoader(frames, order, AUGMENT, seed=seed, device=CPU, **settings)


def take_bytes(source: Iterator[tuple[Tensor, Tensor]], count: int) -> list[bytes]:
    """The bytes of the next batches."""
    return [
        b"".join(tensor.numpy().tobytes() for tensor in batch) for batch in islice(source, count)
    ]


def test_batch_follows_from_sampler_and_seed(frames: PackedFrames) -> None:
    """The third batch, computed from the frames, the sampler and the random numbers."""
    indices = shuffled(NUM_FRAMES, BATCH, 3)(2)
    random_numbers = np.random.default_rng((3, 2, 2)).random((BATCH, NUM_RANDOM))
    expected = augment_with(AUGMENT, frames.images[indices], frames.labels[indices], random_numbers)
    pixels, target = next(make_loader(frames)(2))
    assert ((BATCH, 3, 12, 20), torch.float32) == (pixels.shape, pixels.dtype)
    assert ((BATCH, 12, 20), torch.int64) == (target.shape, target.dtype)
    assert torch.equal(expected[0], pixels)
    assert torch.equal(expected[1], target)


def test_loader_can_start_at_any_update(frames: PackedFrames) -> None:
    """The batches after three updates are the same in a new loader."""
    assert take_bytes(make_loader(frames)(0), 6)[3:] == take_bytes(make_loader(frames)(3), 3)


def test_batches_do_not_depend_on_the_residency(frames: PackedFrames) -> None:
    """Images on the device or on the host give the same bytes."""
    host_batches, device_batches = (
        make_loader(frames, residency=residency) for residency in ("host", "device")
    )
    assert ("host", "device") == (host_batches.residency, device_batches.residency)
    assert take_bytes(host_batches(0), 4) == take_bytes(device_batches(0), 4)


@pytest.mark.parametrize(("residency", "expected"), [("auto", "host"), ("device", "device")])
def test_auto_residency_on_a_cpu_is_host(
    frames: PackedFrames, residency: Residency, expected: str
) -> None:
    """The images are copied only on request."""
    assert expected == make_loader(frames, residency=residency).residency


@pytest.mark.parametrize("count", [2, 4])
def test_shards_are_parts_of_the_whole_batch(frames: PackedFrames, count: int) -> None:
    """The concatenated shards are the batch of a single process, byte for byte."""
    expected = next(islice(make_loader(frames)(0), 1, 2))
    parts = [next(make_loader(frames, shard=(i, count))(1)) for i in range(count)]
    for whole, pieces in zip(expected, zip(*parts, strict=True), strict=True):
        assert torch.equal(whole, torch.cat(pieces))


def test_uneven_shards_are_refused(frames: PackedFrames) -> None:
    """Four frames for three processes."""
    with pytest.raises(ValueError, match=r"batch of 4 .* between 3 processes; .* a multiple of 3"):
        make_loader(frames, shard=(0, 3))


def test_seed_determines_the_crops(frames: PackedFrames) -> None:
    """The same seed gives the same bytes with any global seed; another seed gives others."""
    torch.manual_seed(5)
    first = take_bytes(make_loader(frames)(0), 2)
    torch.manual_seed(6)
    assert first == take_bytes(make_loader(frames)(0), 2)
    assert not set(first) & set(take_bytes(make_loader(frames, seed=4)(0), 2))


def test_global_generator_is_not_used(frames: PackedFrames) -> None:
    """Dropout in a resumed training has the same random numbers."""
    before = torch.get_rng_state()
    take_bytes(make_loader(frames)(0), 2)
    assert torch.equal(before, torch.get_rng_state())


def test_batches_are_independent(frames: PackedFrames) -> None:
    """Changing a batch does not change later ones."""
    source = make_loader(frames, residency="device")
    expected = take_bytes(source(0), 3)
    for i, (pixels, target) in enumerate(islice(source(0), 3)):
        assert expected[i] == pixels.numpy().tobytes() + target.numpy().tobytes()
        pixels.zero_()
        target.zero_()


def test_frame_names_of_a_step(frames: PackedFrames) -> None:
    """The first update is step 1; the names are those of the whole batch, for any shard."""
    indices = shuffled(NUM_FRAMES, BATCH, 3)(4)
    expected = [f"frame {i}" for i in indices]
    assert expected == make_loader(frames, shard=(1, 2)).frame_names(5)


def test_waiting_is_measured(frames: PackedFrames) -> None:
    """The loader always waits for the first batch."""
    source = make_loader(frames)
    assert 0 == source.wait_seconds
    next(source(0))
    assert 0 < source.wait_seconds < 60


def test_no_thread_is_left(frames: PackedFrames) -> None:
    """Neither when the iterator is closed, nor when it is deleted."""
    closed, dropped = make_loader(frames)(0), make_loader(frames)(0)
    next(closed)
    next(dropped)
    assert 2 == num_threads()
    closed.close()
    del dropped
    assert 0 == num_threads()


def test_error_in_a_batch_is_raised_in_the_caller(tmp_path: Path) -> None:
    """The sampler names frames that do not exist, which the thread finds."""
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


CPU = torch.device("cpu")


def test_arrays_are_copied_unchanged() -> None:
    """Shapes, types and bytes are equal."""
    arrays = [
        np.arange(7, dtype=np.uint8),
        np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3),
        np.arange(-2, 3),
    ]
    for array, tensor in zip(arrays, to_device(arrays, CPU), strict=True):
        np.testing.assert_array_equal(array, tensor.numpy())
        assert array.dtype == tensor.numpy().dtype


def test_views_are_copied_as_they_read() -> None:
    """A part of a larger array and a reversed one become contiguous tensors."""
    frame = np.arange(40, dtype=np.uint8).reshape(5, 8)
    window, mirrored = to_device([frame[1:3, 2:5], frame[:, ::-1]], CPU)
    assert [[10, 11, 12], [18, 19, 20]] == window.tolist()
    assert frame[:, ::-1].tolist() == mirrored.tolist()


def test_result_is_a_copy() -> None:
    """The arrays may be read-only and are unchanged."""
    array = np.zeros(3, np.uint8)
    array.flags.writeable = False
    to_device([array], CPU)[0].fill_(9)
    assert [0, 0, 0] == array.tolist()
