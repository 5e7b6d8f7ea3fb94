"""Endless batches for training, made ahead of time, the same wherever the frames lie."""

import time
from collections.abc import Generator
from contextlib import AbstractContextManager, closing, nullcontext
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from segformer.augment import DRAWS, Augment
from segformer.colours import normalising
from segformer.frames import PackedFrames
from segformer.read_ahead import read_ahead
from segformer.render import render
from segformer.sampling import Order
from segformer.sending import send

Residency = Literal["auto", "device", "host"]
"""Where the images lie: on the device whole, on the host, or there if they fit and here if not."""

AHEAD = 2
"""Batches made before they are asked for."""

# Stands beside the seed, as what sampling.py draws has numbers of its own.
_CUTS = 2

_Made = tuple[Tensor, Tensor, torch.cuda.Event | None]


class Batches:
    """Batches of augmented frames on the device; called, they begin after any update.

    What a batch holds is decided by the seed and the updates before it alone: not by where the
    frames lie, how fast they are read, how many processes share a batch, or what came before.

    Attributes:
        residency: where the images lie, `device` or `host`.
        waited: seconds for which a batch was asked for and not made yet, in all.
    """

    def __init__(
        self,
        frames: PackedFrames,
        order: Order,
        augment: Augment,
        *,
        seed: int,
        device: torch.device,
        residency: Residency = "auto",
        share: tuple[int, int] = (0, 1),
    ) -> None:
        """Bring the frames to the device, if that is where they should lie.

        Args:
            frames: what the batches are cut from.
            order: which frames come in which update, for all processes together.
            augment: what is done with each.
            seed: of the augmentation, 0 or more.
            device: where the batches are wanted.
            residency: `auto` is `device` on a GPU of whose free memory the images take at most
                half, so that the network has the rest; labels always stay on the host.
            share: which process this is and how many there are; each takes an equal part of every
                batch.

        Raises:
            ValueError: for a batch that cannot be shared evenly, or frames that do not fit.
        """
        index, count = share
        batch_size = len(order(0))
        if batch_size % count:
            raise ValueError(
                f"a batch of {batch_size} frames cannot be shared evenly by {count} processes; "
                f"make the batch size a multiple of {count}"
            )
        self._rows = slice(index * batch_size // count, (index + 1) * batch_size // count)
        self._frames, self._order, self._augment, self._seed = frames, order, augment, seed
        self._device = _numbered(device)
        self._stream = torch.cuda.Stream(self._device) if device.type == "cuda" else None
        self.residency = _resolve(residency, frames.images.nbytes, self._device)
        self._resident = _whole(frames, self._device) if self.residency == "device" else None
        self.waited = 0.0

    def __call__(self, start: int) -> Generator[tuple[Tensor, Tensor], None, None]:
        """Yield the batches that come after `start` updates, without end.

        Yields:
            (b, 3, *crop) float32, normalised, and (b, *crop) int64 train ids, on the device; b is
            this process's share of the batch.
        """
        threads = 1 if self._stream is None else AHEAD
        with closing(read_ahead(self._make, start, ahead=AHEAD, threads=threads)) as batches:
            while True:
                began = time.perf_counter()
                batch = next(batches)
                self.waited += time.perf_counter() - began
                yield _received(*batch)

    def names(self, step: int) -> list[str]:
        """The frames of the whole batch of an update; the first update is step 1."""
        return [self._frames.names[i] for i in self._order(step - 1)]

    def _make(self, updates: int) -> _Made:
        indices = self._order(updates)
        # Drawn for the whole batch, so that a frame's cut is the same in however many processes.
        draws = np.random.default_rng((self._seed, _CUTS, updates)).random((len(indices), DRAWS))
        mine = indices[self._rows].tolist()
        cuts = [
            self._augment.cut(self._frames.labels[i], numbers)
            for i, numbers in zip(mine, draws[self._rows], strict=True)
        ]
        places = [(i, cut.rows, cut.columns) for i, cut in zip(mine, cuts, strict=True)]
        colours = normalising(np.stack([cut.colours for cut in cuts]))
        labels = np.stack([cut.labels for cut in cuts])
        with self._in_stream():
            if self._resident is None:
                taken = [self._frames.images[place] for place in places]
                sent_colours, target, *windows = send([colours, labels, *taken], self._device)
            else:
                sent_colours, target = send([colours, labels], self._device)
                windows = [self._resident[place] for place in places]
            pixels, target = render(windows, cuts, sent_colours), target.long()
            is_made = None if self._stream is None else self._stream.record_event()
        return pixels, target, is_made

    def _in_stream(self) -> AbstractContextManager[object]:
        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)


def _received(
    pixels: Tensor, target: Tensor, is_made: torch.cuda.Event | None
) -> tuple[Tensor, Tensor]:
    """Let the caller's stream, not the caller, wait until the batch is made."""
    if is_made is not None:
        stream = torch.cuda.current_stream(pixels.device)
        stream.wait_event(is_made)
        for tensor in (pixels, target):
            tensor.record_stream(stream)
    return pixels, target


def _numbered(device: torch.device) -> torch.device:
    """Name the GPU that is meant: in another thread the current one is another one."""
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device


def _resolve(
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


def _whole(frames: PackedFrames, device: torch.device) -> Tensor:
    """(n, h, w, 3) uint8, all images on the device, copied one by one: the host may be smaller."""
    images = torch.empty(frames.images.shape, dtype=torch.uint8, device=device)
    for i, image in enumerate(images):
        image.copy_(frames.batch([i])[0][0])
    if device.type == "cuda":
        torch.cuda.synchronize(device)  # before other streams read them
    return images
