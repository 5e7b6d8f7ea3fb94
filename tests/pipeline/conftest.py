"""Small frames in Cityscapes' folder layout, and other shared fixtures."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.dataset.archive import IMAGE, LABEL_IDS, member_name
from segformer.model.segformer import SegFormer
from segformer.weights import checkpoint

PARAMS_FILE = Path(__file__).parents[2] / "params.yaml"
FRAME_KEYS = (
    "train/avalon/avalon_000000_000019",
    "train/avalon/avalon_000001_000019",
    "train/camelot/camelot_000000_000019",
    "val/lyonesse/lyonesse_000000_000019",
    "val/lyonesse/lyonesse_000001_000019",
)
SIZE = (32, 64)


def save_png(path: Path, pixels: np.ndarray) -> None:
    """Write (h, w) or (h, w, 3) uint8 as a PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@contextmanager
def limit_file_size(size: int) -> Iterator[None]:
    """Make writing fail with an error of the system when a file exceeds `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def corrupt_zip_directory(path: Path) -> None:
    """Damage the directory of a zip, but not its end, by which a zip is recognized."""
    content = bytearray(path.read_bytes())
    start = content.index(b"PK\1\2")
    content[start : start + 4] = b"????"
    path.write_bytes(content)


def write_changed_params(folder: Path, *changes: tuple[str, str]) -> Path:
    """Write the shipped params.yaml into a folder, with some of its text replaced."""
    text = PARAMS_FILE.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    path = folder / "params.yaml"
    path.write_text(text)
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """An extracted tree of three training and two validation frames with random pixels and ids."""
    random = np.random.default_rng(0)
    folder = tmp_path / "cityscapes"
    for key in FRAME_KEYS:
        image = random.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        save_png(folder / member_name(key, IMAGE), image)
        label_ids = random.integers(0, 34, SIZE, dtype=np.uint8)
        save_png(folder / member_name(key, LABEL_IDS), label_ids)
    return folder


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model with random weights, trained at 64 x 96."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("models") / "ce-0"
    checkpoint.save(SegFormer("b0"), path, size=(64, 96))
    return path
