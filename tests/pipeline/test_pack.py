from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.archive import IMAGE, LABEL_IDS, member_name
from pipeline.stages import remap
from pipeline.stages.pack import Pack, run
from segformer.cityscapes import train_id_table
from segformer.frames import PackedFrames
from tests.pipeline.conftest import KEYS, SIZE


@pytest.fixture
def remapped(tree: Path, tmp_path: Path) -> Path:
    """What `remap` writes for the tree."""
    out = tmp_path / "remap"
    remap.run(
        remap.Remap(split="official"),
        images=tree,
        ground_truth=tree,
        out=out,
        progress=lambda done, total: None,
    )
    return out


def pack(tree: Path, remapped: Path, out: Path, size: tuple[int, int] = SIZE) -> None:
    """Run the stage."""
    run(
        Pack(size=size),
        images=tree,
        labels=remapped / "labels.zip",
        frames=remapped / "frames.csv",
        out=out,
        progress=lambda done, total: None,
    )


def test_frames_at_their_own_size_are_packed_unchanged(
    tree: Path, remapped: Path, tmp_path: Path
) -> None:
    """At the frames' own size every packed pixel and train id is the file's."""
    pack(tree, remapped, tmp_path / "out")
    for split, keys in (("train", KEYS[:3]), ("val", KEYS[3:])):
        frames = PackedFrames.open(tmp_path / "out" / split)
        assert sorted(keys) == frames.names
        for i, key in enumerate(frames.names):
            image = np.asarray(Image.open(tree / member_name(key, IMAGE)))
            label_ids = np.asarray(Image.open(tree / member_name(key, LABEL_IDS)))
            np.testing.assert_array_equal(image, frames.images[i])
            np.testing.assert_array_equal(train_id_table()[label_ids], frames.labels[i])


def test_another_size(tree: Path, remapped: Path, tmp_path: Path) -> None:
    """Frames are packed at the size asked for, and no new class appears."""
    pack(tree, remapped, tmp_path / "out", (31, 45))
    frames = PackedFrames.open(tmp_path / "out" / "train")
    assert (3, 31, 45, 3) == frames.images.shape
    assert set(np.unique(frames.labels)) <= {*range(19), 255}


def test_an_unreadable_photograph_is_named(tree: Path, remapped: Path, tmp_path: Path) -> None:
    """It stops with the file's name, and nothing is written."""
    (tree / member_name(KEYS[3], IMAGE)).write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"lyonesse_000000_000019_leftImg8bit\.png cannot be read"):
        pack(tree, remapped, tmp_path / "out")
    assert not (tmp_path / "out").exists()
