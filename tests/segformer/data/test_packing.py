import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from segformer.data.packed_frames import PackedFrames, create
from segformer.data.packing import allocate, bytes_needed, write_frame

SIZE = (4, 6)


def make_frame(number: int) -> tuple[np.ndarray, np.ndarray]:
    """A photograph and labels that differ from those of any other number."""
    random = np.random.default_rng(number)
    image = random.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    return image, random.integers(0, 19, SIZE, dtype=np.uint8)


def test_write_frame_gives_the_bytes_of_create(tmp_path: Path) -> None:
    """Frames written in any order give the files of `create`."""
    names = ["a", "b,1", "c"]
    allocate(tmp_path / "put", names, SIZE)
    for index in (2, 0, 1):
        write_frame(tmp_path / "put", index, *make_frame(index))
    with create(tmp_path / "created", names, SIZE) as (images, labels):
        for index in range(3):
            images[index], labels[index] = make_frame(index)
    for name in ("images.npy", "labels.npy", "frames.csv"):
        expected = (tmp_path / "created" / name).read_bytes()
        assert expected == (tmp_path / "put" / name).read_bytes()


def test_write_frame_changes_no_other_frame(tmp_path: Path) -> None:
    """The other frames stay zero; a reversed view is written as it reads."""
    allocate(tmp_path / "put", ["a", "b", "c"], SIZE)
    image, labels = make_frame(1)
    write_frame(tmp_path / "put", 1, image[:, ::-1], labels[::-1])
    packed = PackedFrames.open(tmp_path / "put")
    np.testing.assert_array_equal(image[:, ::-1], packed.images[1])
    np.testing.assert_array_equal(labels[::-1], packed.labels[1])
    assert 0 == packed.images[[0, 2]].max() == packed.labels[[0, 2]].max()


def test_bytes_needed_is_the_size_of_the_files(tmp_path: Path) -> None:
    """The estimate differs from the size on disk by headers and names only."""
    allocate(tmp_path / "put", [str(number) for number in range(500)], SIZE)
    size_on_disk = sum(path.stat().st_size for path in (tmp_path / "put").iterdir())
    assert bytes_needed(500, SIZE) == pytest.approx(size_on_disk, abs=3000)


def test_packing_does_not_import_pytorch() -> None:
    """A packing process imports neither PyTorch nor pandas, which cost time and memory."""
    program = "import sys, pipeline.stages.pack; print({'torch', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert b"set()" == done.stdout.strip()
