"""A conventional training: transformers' SegFormer, with PNGs decoded by a DataLoader."""

import random
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, RandomSampler
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from segformer.cityscapes import IGNORE, NUM_CLASSES
from segformer.data.packed_frames import MEAN, STD
from segformer.model.variants import get_variant

LEARNING_RATE = 6e-5  # paper, section 4.1
SCALE = (0.5, 2.0)


@dataclass(frozen=True)
class PngFrames(Dataset[tuple[Tensor, Tensor]]):
    """Frames decoded one by one, randomly scaled, cropped and flipped, and normalized.

    `files` are pairs of photograph and label map, `crop` is rows and columns in pixels.
    """

    files: Sequence[tuple[Path, Path]]
    crop: tuple[int, int]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """(3, *crop) float32 and (*crop) int64."""
        photograph, label_map = self.files[index]
        image = Image.open(photograph).convert("RGB")
        labels: Image.Image = Image.open(label_map)
        factor = random.uniform(*SCALE)
        size = round(image.width * factor), round(image.height * factor)
        image = image.resize(size, Image.Resampling.BILINEAR)
        labels = labels.resize(size, Image.Resampling.NEAREST)
        rows, columns = self.crop
        padding = (0, 0, max(0, columns - size[0]), max(0, rows - size[1]))
        image = ImageOps.expand(image, padding)
        labels = ImageOps.expand(labels, padding, fill=IGNORE)
        left = random.randint(0, image.width - columns)
        top = random.randint(0, image.height - rows)
        box = left, top, left + columns, top + rows
        image, labels = image.crop(box), labels.crop(box)
        if random.random() < 0.5:
            image, labels = ImageOps.mirror(image), ImageOps.mirror(labels)
        pixels = (np.asarray(image, np.float32) / 255 - MEAN) / STD
        return (
            torch.from_numpy(pixels.astype(np.float32).transpose(2, 0, 1)),
            torch.from_numpy(np.array(labels, np.int64)),
        )


class ReferenceTraining:
    """Transformers' network with its own loss, AdamW, and batches of a DataLoader."""

    def __init__(
        self,
        variant: str,
        frames: PngFrames,
        *,
        batch_size: int,
        workers: int,
        device: torch.device,
        autocast: torch.dtype | None,
    ) -> None:
        size = get_variant(variant)
        config = SegformerConfig(
            hidden_sizes=size.widths,
            depths=size.depths,
            decoder_hidden_size=size.decoder_width,
            num_labels=NUM_CLASSES,
            semantic_loss_ignore_index=IGNORE,
        )
        self.network: nn.Module = SegformerForSemanticSegmentation(config)
        self.network.to(device)
        self._optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=LEARNING_RATE, weight_decay=0.01
        )
        # A single long epoch: the test frames are few, and real epochs are long.
        self._loader = DataLoader(
            frames,
            batch_size,
            sampler=RandomSampler(frames, replacement=True, num_samples=10**9),
            num_workers=workers,
            pin_memory=device.type == "cuda",
        )
        self._device, self._autocast = device, autocast

    def stream(self) -> Generator[tuple[Tensor, Tensor], None, None]:
        """Yield batches on the device, without end."""
        for images, labels in self._loader:
            yield (
                images.to(self._device, non_blocking=True),
                labels.to(self._device, non_blocking=True),
            )

    def train(self, batches: Iterator[tuple[Tensor, Tensor]], steps: int) -> float:
        """Make `steps` updates and return the last loss."""
        self.network.train()
        for _ in range(steps):
            images, labels = next(batches)
            self._optimizer.zero_grad()
            with torch.autocast(
                self._device.type, self._autocast, enabled=self._autocast is not None
            ):
                loss: Tensor = self.network(pixel_values=images, labels=labels).loss
            torch.autograd.backward(loss)
            self._optimizer.step()
        return loss.item()
