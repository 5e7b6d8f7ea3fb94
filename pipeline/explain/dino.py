"""DINO's Vision Transformers: their pinned files on the hub, and the maps of their CLS token."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from pipeline.download.hub import fetch_file
from pipeline.params.pretrained import Pin
from segformer.data.packed_frames import normalize
from segformer.inference.segment import eval_mode
from segformer.vit.model import VisionTransformer, nearest_multiple
from segformer.vit.variants import VARIANTS
from segformer.vit.weights import load_vit

LICENSE = "Apache-2.0"
"""The license of DINO's code and weights (https://github.com/facebookresearch/dino)."""

# Taken from public repositories that pin them; docs/pretrained.md says what is missing.
PINS = {
    "dino-vits8": Pin(
        "facebook/dino-vits8",
        "483f2fc47097ae6f0afc8bcfb43004224bddeae2",
        "model.safetensors",
        None,
    ),
    "dino-vits16": Pin(
        "facebook/dino-vits16",
        "abe3b354cb6a9b6f146096b14a4a9d7eecbcb4bd",
        "pytorch_model.bin",
        None,
    ),
    "dino-vitb16": Pin(
        "facebook/dino-vitb16",
        "f205d5d8e640a89a2b8ef0369670dfc37cc07fc2",
        "pytorch_model.bin",
        "a064e36c67289caaa5c949c0b3f7f31a0fcbcba5721f5fa12419933ec1f4fe6e",
    ),
}
"""Files on the hub. A checksum is None if no public source has it; one is never guessed."""

Report = Callable[[str], None]


@dataclass(frozen=True)
class _Source:
    """A file of weights.

    Attributes:
        path: of the file.
        origin: where it is from, for messages.
        sha256: the expected checksum; None if none is known.
        authority: the source of the expected checksum, for messages.
    """

    path: Path
    origin: str
    sha256: str | None
    authority: str


def load_dino(
    name_or_path: str, *, sha256: str | None = None, report: Report | None = None
) -> VisionTransformer:
    """Load one of DINO's Vision Transformers, in evaluation mode, on the CPU.

    The SHA-256 of the file is compared, before the file is read, with the first of these that is
    known: the given one, the pinned one, the one that the hub has for the pinned revision.

    Args:
        name_or_path: a name such as dino-vits8, downloaded from the hub if it is not in its cache;
            or the path of a file that `segformer.vit.weights.load_vit` reads.
        sha256: of the file, 64 hex digits; None to use the pinned one.
        report: receives one sentence on the origin and checksum of the file; of a file on the hub
            also the license.

    Raises:
        ValueError: for an unknown name, a missing file, a file that cannot be downloaded (the
            message says how to bring it by hand), another checksum, or tensors that do not fit.
    """
    name = name_or_path.removeprefix("facebook/")
    is_name = name in VARIANTS
    source = _fetch_source(name, sha256) if is_name else _find_source(name_or_path, sha256)
    actual = _check_sha256(source)
    if report is not None:
        report(f"{source.origin}; sha256 {actual} ({source.authority})")
    return load_vit(source.path, name if is_name else None)


def cls_maps(
    model: VisionTransformer, image: NDArray[np.uint8], *, size: tuple[int, int] | None = None
) -> NDArray[np.float32]:
    """Compute the attention of the CLS token to every patch of a photograph.

    Args:
        model: on any device; evaluated in evaluation mode without gradients.
        image: (H, W, 3) uint8 RGB.
        size: rows and columns of the network's input, in pixels; None for (H, W). Both are rounded
            to whole patches, so that a map covers the whole photograph.

    Returns:
        (a, rows, columns): the attention weight, 0..1, of each patch, for each head of the last
        block. A head's weights sum to 1 minus the weight of the CLS token itself.
    """
    pixels = normalize(torch.from_numpy(image)[None].to(model.cls_token.device))
    height, width = size or image.shape[:2]
    patch = model.variant.patch
    input_size = nearest_multiple(height, patch), nearest_multiple(width, patch)
    if pixels.shape[-2:] != input_size:
        pixels = F.interpolate(pixels, input_size, mode="bilinear", antialias=True)
    with eval_mode(model):
        maps: NDArray[np.float32] = model.cls_attention(pixels)[0].float().cpu().numpy()
    return maps


def _fetch_source(name: str, sha256: str | None) -> _Source:
    """Fetch the pinned file of a variant."""
    pin = PINS.get(name)
    if pin is None:
        raise ValueError(
            f"{name}: no revision is pinned, because none is known; download"
            f" https://huggingface.co/facebook/{name}/resolve/main/pytorch_model.bin on any"
            " machine, copy it to this one, and give its path in place of the name: --model PATH"
        )
    path = fetch_file(
        pin, caller=name, manual_step="give its path in place of the name: --model PATH"
    )
    origin = f"{name}: {pin.repository}, revision {pin.revision}, {pin.filename}, {LICENSE}"
    if sha256 or pin.sha256:
        return _Source(path, origin, sha256 or pin.sha256, "as given" if sha256 else "as pinned")
    reported = _find_reported_sha256(path)
    authority = "as the hub has it for this revision" if reported else "not verified: none is known"
    return _Source(path, origin, reported, f"{authority}; no independent checksum is known")


def _find_source(path: str, sha256: str | None) -> _Source:
    """Find a file on this machine."""
    file = Path(path)
    if not file.is_file():
        raise ValueError(
            f"{path}: neither a file nor a known model; give a path, or one of"
            f" {', '.join(VARIANTS)}"
        )
    return _Source(file, str(file), sha256, "as given" if sha256 else "not verified: none is given")


def _find_reported_sha256(path: Path) -> str | None:
    """The SHA-256 that the hub has for a large file: the name of its blob in the cache."""
    blob = path.resolve().name
    return blob if re.fullmatch("[0-9a-f]{64}", blob) else None


def _check_sha256(source: _Source) -> str:
    """Return the SHA-256 of the file.

    Raises:
        ValueError: if it is not the expected one.
    """
    with source.path.open("rb") as content:
        actual = hashlib.file_digest(content, "sha256").hexdigest()
    if source.sha256 not in (None, actual):
        # A file damaged in the cache would be used from there for ever.
        raise ValueError(
            f"{source.path}: the SHA-256 is {actual}, not {source.sha256} ({source.authority});"
            f" delete {source.path.resolve()} and get the file again"
        )
    return actual
