"""Batches for training: an endless, prefetching loader, and the copy of arrays to the device."""

import time
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segformer.data.augment import NUM_RANDOM, Augment
from segformer.data.color_jitter import fold_normalization
from segformer.data.packed_frames import PackedFrames
from segformer.data.prefetch import prefetch
from segformer.data.render import render
from segformer.data.sampling import BatchSampler

Residency = Literal["auto", "device", "host"]
"""Where the images are held: on the device, on the host, or (auto) on the device if they fit."""

PREFETCH_BATCHES = 2
"""Batches made ahead of time."""

ALIGNMENT = 16
"""Bytes; every array in a packed buffer starts at a multiple, as views of other types need."""

# Part of the generator's seed: sampling.py uses other numbers.
_AUGMENT = 2

_PrefetchedBatch = tuple[Tensor, Tensor, torch.cuda.Event | None]


class BatchLoader:
    """An endless loader of augmented batches on the device; it can start after any update.

    A batch depends on the seed and the number of updates before it alone: not on the residency, the
    reading speed, the number of processes that share a batch, or earlier batches.

    Attributes:
        residency: where the images are held, `device` or `host`.
        wait_seconds: total seconds spent waiting for batches that were not ready.
    """

    def __init__(
        self,
        frames: PackedFrames,
        sampler: BatchSampler,
        augment: Augment,
        *,
        seed: int,
        device: torch.device,
        residency: Residency = "auto",
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        """Copy the images to the device if they are held there.

        Args:
            frames: the packed frames.
            sampler: the frames of each update, for all processes together.
            augment: the augmentation.
            seed: of the augmentation, 0 or more.
            device: the device of the batches.
            residency: `auto` is `device` on a GPU if the images take at most half of its free
                memory, which leaves the rest to the network; labels always stay on the host.
            shard: index of this process and number of processes; each has an equal part of every
                batch.

        Raises:
            ValueError: for a batch that cannot be split evenly, or images that do not fit.
        """
        index, count = shard
        batch_size = len(sampler(0))
        if batch_size % count:
            raise ValueError(
                f"a batch of {batch_size} frames cannot be split evenly between {count} processes; "
                f"make the batch size a multiple of {count}"
            )
        self._rows = slice(index * batch_size // count, (index + 1) * batch_size // count)
        self._frames, self._sampler, self._augment, self._seed = frames, sampler, augment, seed
        self._device = _with_device_index(device)
        self._stream = torch.cuda.Stream(self._device) if device.type == "cuda" else None
        self.residency = _resolve_residency(residency, frames.images.nbytes, self._device)
        self._resident = (
            _copy_all_images(frames, self._device) if self.residency == "device" else None
        )
        self.wait_seconds = 0.0

    def __call__(self, start: int) -> Generator[tuple[Tensor, Tensor], None, None]:
        """Yield the batches after `start` updates, without end.

        Yields:
            (b, 3, *crop) float32, normalized, and (b, *crop) int64 train ids, on the device; b is
            this process's share of the batch.
        """
        threads = 1 if self._stream is None else PREFETCH_BATCHES
        with closing(
            prefetch(self._make_batch, start, ahead=PREFETCH_BATCHES, threads=threads)
        ) as batches:
            while True:
                began = time.perf_counter()
                batch = next(batches)
                self.wait_seconds += time.perf_counter() - began
                yield _wait_for_batch(*batch)

    def frame_names(self, step: int) -> list[str]:
        """Return the frame names of the whole batch of a step; the first update is step 1."""
        return [self._frames.names[i] for i in self._sampler(step - 1)]

    def _make_batch(self, updates: int) -> _PrefetchedBatch:
        indices = self._sampler(updates)
        # Drawn for the whole batch: the plan of a frame does not depend on the number of processes.
        random_numbers = np.random.default_rng((self._seed, _AUGMENT, updates)).random(
            (len(indices), NUM_RANDOM)
        )
        shard = indices[self._rows].tolist()
        plans = [
            self._augment.plan(self._frames.labels[i], numbers)
            for i, numbers in zip(shard, random_numbers[self._rows], strict=True)
        ]
        windows_at = [(i, plan.rows, plan.columns) for i, plan in zip(shard, plans, strict=True)]
        color_matrices = fold_normalization(np.stack([plan.color_matrix for plan in plans]))
        labels = np.stack([plan.labels for plan in plans])
        with self._use_stream():
            if self._resident is None:
                crops = [self._frames.images[at] for at in windows_at]
                matrices, target, *windows = to_device(
                    [color_matrices, labels, *crops], self._device
                )
            else:
                matrices, target = to_device([color_matrices, labels], self._device)
                windows = [self._resident[at] for at in windows_at]
            pixels, target = render(windows, plans, matrices), target.long()
            ready_event = None if self._stream is None else self._stream.record_event()
        return pixels, target, ready_event

    def _use_stream(self) -> AbstractContextManager[object]:
        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)


def to_device(arrays: Sequence[NDArray[Any]], device: torch.device) -> list[Tensor]:
    """Copy arrays to a device, through pinned memory if it is a GPU.

    The copy runs in the current stream; later operations there read complete arrays.

    Args:
        arrays: of any shapes and types, including windows of larger arrays.
        device: the target device.

    Returns:
        A tensor per array, of the same shape and type; all are views of one buffer.
    """
    starts = np.cumsum([0] + [-(-array.nbytes // ALIGNMENT) * ALIGNMENT for array in arrays])
    # PyTorch reuses pinned memory only after the copies from it are done.
    packed = torch.empty(int(starts[-1]), dtype=torch.uint8, pin_memory=device.type == "cuda")
    for array, part in zip(arrays, _split_buffer(packed, starts, arrays), strict=True):
        np.copyto(part.numpy(), array)
    return _split_buffer(packed.to(device, non_blocking=True), starts, arrays)


def _wait_for_batch(
    pixels: Tensor, target: Tensor, ready_event: torch.cuda.Event | None
) -> tuple[Tensor, Tensor]:
    """Make the caller's stream, not the caller, wait until the batch is ready."""
    if ready_event is not None:
        stream = torch.cuda.current_stream(pixels.device)
        stream.wait_event(ready_event)
        for tensor in (pixels, target):
            tensor.record_stream(stream)
    return pixels, target


def _with_device_index(device: torch.device) -> torch.device:
    """Add the index of the current GPU, which is another one in another thread."""
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device


def _resolve_residency(
    residency: Residency, num_bytes: int, device: torch.device
) -> Literal["device", "host"]:
    if device.type != "cuda":
        return "device" if residency == "device" else "host"
    free, _ = torch.cuda.mem_get_info(device)
    if residency == "device" and num_bytes > free:
        raise ValueError(
            f"residency is device, but the images take {num_bytes / 2**30:.1f} GiB and the GPU has "
            f"{free / 2**30:.1f} GiB free; choose auto or host, or pack the frames smaller"
        )
    if residency == "auto":
        return "device" if num_bytes <= free / 2 else "host"
    return residency


def _copy_all_images(frames: PackedFrames, device: torch.device) -> Tensor:
    """Copy all images to the device, one by one, as the host may have less memory.

    Returns:
        (n, h, w, 3) uint8.
    """
    images = torch.empty(frames.images.shape, dtype=torch.uint8, device=device)
    for i, image in enumerate(images):
        image.copy_(frames.batch([i])[0][0])
    if device.type == "cuda":
        torch.cuda.synchronize(device)  # before other streams read the images
    return images


def _split_buffer(
    packed: Tensor, starts: NDArray[np.int64], arrays: Sequence[NDArray[Any]]
) -> list[Tensor]:
    return [
        packed[start : start + array.nbytes]
        .view(torch.from_numpy(np.empty(0, array.dtype)).dtype)
        .view(array.shape)
        for start, array in zip(starts.tolist(), arrays, strict=False)
    ]
