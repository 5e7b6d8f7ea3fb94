"""Endless batches for training, made ahead of time, the same wherever the frames lie."""

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
"""Where the images lie: on the device whole, on the host, or there if they fit and here if not."""

PREFETCH_BATCHES = 2
"""Batches made before they are asked for."""

# Stands beside the seed, as what sampling.py draws has numbers of its own.
_AUGMENT = 2

_PrefetchedBatch = tuple[Tensor, Tensor, torch.cuda.Event | None]


class BatchLoader:
    """Batches of augmented frames on the device; called, they begin after any update.

    What a batch holds is decided by the seed and the updates before it alone: not by where the
    frames lie, how fast they are read, how many processes share a batch, or what came before.

    Attributes:
        residency: where the images lie, `device` or `host`.
        wait_seconds: seconds for which a batch was asked for and not made yet, in all.
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
        """Bring the frames to the device, if that is where they should lie.

        Args:
            frames: what the batches are cut from.
            sampler: which frames come in which update, for all processes together.
            augment: what is done with each.
            seed: of the augmentation, 0 or more.
            device: where the batches are wanted.
            residency: `auto` is `device` on a GPU of whose free memory the images take at most
                half, so that the network has the rest; labels always stay on the host.
            shard: which process this is and how many there are; each takes an equal part of every
                batch.

        Raises:
            ValueError: for a batch that cannot be shared evenly, or frames that do not fit.
        """
        index, count = shard
        batch_size = len(sampler(0))
        if batch_size % count:
            raise ValueError(
                f"a batch of {batch_size} frames cannot be shared evenly by {count} processes; "
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
        """Yield the batches that come after `start` updates, without end.

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
        """The frames of the whole batch of an update; the first update is step 1."""
        return [self._frames.names[i] for i in self._sampler(step - 1)]

    def _make_batch(self, updates: int) -> _PrefetchedBatch:
        indices = self._sampler(updates)
        # Drawn for the whole batch, so that a frame's cut is the same in however many processes.
        draws = np.random.default_rng((self._seed, _AUGMENT, updates)).random(
            (len(indices), NUM_RANDOM)
        )
        mine = indices[self._rows].tolist()
        cuts = [
            self._augment.plan(self._frames.labels[i], numbers)
            for i, numbers in zip(mine, draws[self._rows], strict=True)
        ]
        places = [(i, cut.rows, cut.columns) for i, cut in zip(mine, cuts, strict=True)]
        colors = fold_normalization(np.stack([cut.color_matrix for cut in cuts]))
        labels = np.stack([cut.labels for cut in cuts])
        with self._use_stream():
            if self._resident is None:
                taken = [self._frames.images[place] for place in places]
                sent_colors, target, *windows = to_device([colors, labels, *taken], self._device)
            else:
                sent_colors, target = to_device([colors, labels], self._device)
                windows = [self._resident[place] for place in places]
            pixels, target = render(windows, cuts, sent_colors), target.long()
            is_made = None if self._stream is None else self._stream.record_event()
        return pixels, target, is_made

    def _use_stream(self) -> AbstractContextManager[object]:
        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)


def _wait_for_batch(
    pixels: Tensor, target: Tensor, ready_event: torch.cuda.Event | None
) -> tuple[Tensor, Tensor]:
    """Let the caller's stream, not the caller, wait until the batch is made."""
    if ready_event is not None:
        stream = torch.cuda.current_stream(pixels.device)
        stream.wait_event(ready_event)
        for tensor in (pixels, target):
            tensor.record_stream(stream)
    return pixels, target


def _with_device_index(device: torch.device) -> torch.device:
    """Name the GPU that is meant: in another thread the current one is another one."""
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
    """(n, h, w, 3) uint8, all images on the device, copied one by one: the host may be smaller."""
    images = torch.empty(frames.images.shape, dtype=torch.uint8, device=device)
    for i, image in enumerate(images):
        image.copy_(frames.batch([i])[0][0])
    if device.type == "cuda":
        torch.cuda.synchronize(device)  # before other streams read them
    return images


ALIGNMENT = 16
"""Bytes: every array begins at a multiple of them, as views of other types need it."""


def to_device(arrays: Sequence[NDArray[Any]], device: torch.device) -> list[Tensor]:
    """Copy arrays to a device, through pinned memory if it is a GPU.

    The copy runs in the current stream; what comes after it there finds the arrays whole.

    Args:
        arrays: of any shapes and types, also windows of larger ones.
        device: where they should be.

    Returns:
        A tensor for each, of the same shape and type; all are views of one piece of memory.
    """
    starts = np.cumsum([0] + [-(-array.nbytes // ALIGNMENT) * ALIGNMENT for array in arrays])
    # PyTorch hands out a pinned piece again only when the copies from it are done.
    packed = torch.empty(int(starts[-1]), dtype=torch.uint8, pin_memory=device.type == "cuda")
    for array, part in zip(arrays, _split_buffer(packed, starts, arrays), strict=True):
        np.copyto(part.numpy(), array)
    return _split_buffer(packed.to(device, non_blocking=True), starts, arrays)


def _split_buffer(
    packed: Tensor, starts: NDArray[np.int64], arrays: Sequence[NDArray[Any]]
) -> list[Tensor]:
    return [
        packed[start : start + array.nbytes]
        .view(torch.from_numpy(np.empty(0, array.dtype)).dtype)
        .view(array.shape)
        for start, array in zip(starts.tolist(), arrays, strict=False)
    ]
