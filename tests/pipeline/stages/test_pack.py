import errno
import os
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.dataset.archive import IMAGE, LABEL_IDS, TRAIN_IDS, member_name
from pipeline.params.pack import Pack
from pipeline.stages import remap
from pipeline.stages.pack import pack_frames
from segformer.cityscapes import train_id_table
from segformer.data.packed_frames import PackedFrames
from tests.pipeline.conftest import FRAME_KEYS, SIZE

HEADER = "frame,split,city,rows,columns"


@pytest.fixture
def remapped(tree: Path, tmp_path: Path) -> Path:
    """The output of `remap` for the tree."""
    out = tmp_path / "remap"
    remap.remap_labels(
        remap.Remap(split="official", held_out=0.2, seed=0),
        images=tree,
        ground_truth=tree,
        out=out,
        progress=lambda done, total: None,
    )
    return out


def pack(
    tree: Path,
    remapped: Path,
    out: Path,
    size: tuple[int, int] = SIZE,
    processes: int | None = None,
) -> None:
    """Run the stage."""
    pack_frames(
        Pack(size=size),
        images=tree,
        labels=remapped / "labels.zip",
        frames=remapped / "frames.csv",
        out=out,
        progress=lambda done, total: None,
        processes=processes,
    )


def test_frames_at_their_own_size_are_packed_unchanged(
    tree: Path, remapped: Path, tmp_path: Path
) -> None:
    """At the frames' own size, packed pixels and train ids are those of the files."""
    pack(tree, remapped, tmp_path / "out")
    for split, keys in (("train", FRAME_KEYS[:3]), ("val", FRAME_KEYS[3:])):
        frames = PackedFrames.open(tmp_path / "out" / split)
        assert sorted(keys) == frames.names
        for i, key in enumerate(frames.names):
            image = np.asarray(Image.open(tree / member_name(key, IMAGE)))
            label_ids = np.asarray(Image.open(tree / member_name(key, LABEL_IDS)))
            np.testing.assert_array_equal(image, frames.images[i])
            np.testing.assert_array_equal(train_id_table()[label_ids], frames.labels[i])


def test_frames_are_resized(tree: Path, remapped: Path, tmp_path: Path) -> None:
    """Frames are packed at the requested size, without new train ids."""
    pack(tree, remapped, tmp_path / "out", (31, 45))
    frames = PackedFrames.open(tmp_path / "out" / "train")
    assert (3, 31, 45, 3) == frames.images.shape
    assert set(np.unique(frames.labels)) <= {*range(19), 255}


def test_unreadable_photograph_is_refused(tree: Path, remapped: Path, tmp_path: Path) -> None:
    """The file is named, and nothing is written."""
    (tree / member_name(FRAME_KEYS[3], IMAGE)).write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"lyonesse_000000_000019_leftImg8bit\.png: not a PNG"):
        pack(tree, remapped, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_all_damaged_pictures_are_named(tree: Path, remapped: Path, tmp_path: Path) -> None:
    """One message names all; pictures with damaged pixels alone pass `remap`."""
    for key in (FRAME_KEYS[0], FRAME_KEYS[4]):
        corrupt_pixels(tree / member_name(key, IMAGE))
    remap.remap_labels(
        remap.Remap(split="official", held_out=0.2, seed=0),
        images=tree,
        ground_truth=tree,
        out=tmp_path / "again",
        progress=lambda done, total: None,
    )
    with pytest.raises(ValueError, match="pack: 2 problems") as error:
        pack(tree, tmp_path / "again", tmp_path / "out")
    for key in (FRAME_KEYS[0], FRAME_KEYS[4]):
        assert f"{member_name(key, IMAGE)}: damaged PNG" in str(error.value)
    assert [] == list(tmp_path.glob("out*"))


def corrupt_pixels(path: Path) -> None:
    """Overwrite the compressed pixels, with a valid checksum."""
    content = path.read_bytes()
    start = content.index(b"IDAT")
    size = int.from_bytes(content[start - 4 : start], "big")
    chunk = b"IDAT" + b"?" * size
    corrupted = chunk + zlib.crc32(chunk).to_bytes(4, "big")
    path.write_bytes(content[:start] + corrupted + content[start + len(corrupted) :])


def test_processes_do_not_change_the_bytes(tree: Path, remapped: Path, tmp_path: Path) -> None:
    """One and two processes write the same bytes."""
    for processes in (1, 2):
        pack(tree, remapped, tmp_path / str(processes), (31, 45), processes)
    one, two = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")}
        for folder in (tmp_path / "1", tmp_path / "2")
    )
    assert 6 == len(one)
    assert one == two


def test_test_frames_are_not_packed(tree: Path, remapped: Path, tmp_path: Path) -> None:
    """Frames of train and val are packed, those of the split test are not."""
    table = (remapped / "frames.csv").read_text()
    rows = table.replace(",val,", ",test,").replace(
        f"{FRAME_KEYS[2]},train,", f"{FRAME_KEYS[2]},val,"
    )
    (remapped / "frames.csv").write_text(rows)
    pack(tree, remapped, tmp_path / "out")
    assert ["train", "val"] == sorted(path.name for path in (tmp_path / "out").iterdir())
    assert list(FRAME_KEYS[:2]) == PackedFrames.open(tmp_path / "out" / "train").names
    assert [FRAME_KEYS[2]] == PackedFrames.open(tmp_path / "out" / "val").names


def test_split_without_frames_is_refused(tree: Path, remapped: Path, tmp_path: Path) -> None:
    """Without validation frames the stage is refused, since training needs them."""
    table = (remapped / "frames.csv").read_text()
    (remapped / "frames.csv").write_text(table.replace(",val,", ",test,"))
    with pytest.raises(ValueError, match="no frame in the split val"):
        pack(tree, remapped, tmp_path / "out")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("frame,city\na,b\n", "has no column 'split'"),
        ("", "has no column 'frame'"),
        (f"{HEADER}\n", "has no frames"),
        (f"{HEADER}\na/b/c,train\n", "has a row with too few"),
        (f"{HEADER}\na/b/c,train,b,1,1\na/b/c,val,b,1,1\n", "has a/b/c twice"),
        (f'{HEADER}\n"a,train\n', "is not a CSV table"),
        (b"\xff\xfe", "is not a CSV table"),
        (None, "is missing"),
    ],
)
def test_invalid_table_is_refused(
    tree: Path, remapped: Path, tmp_path: Path, table: str | bytes | None, message: str
) -> None:
    """A table that is not one of `remap` is refused with its problem."""
    path = remapped / "frames.csv"
    if table is None:
        path.unlink()
    else:
        path.write_bytes(table.encode() if isinstance(table, str) else table)
    with pytest.raises(
        ValueError, match=rf"frames\.csv:? .*({message}).*`dvc repro --force remap`"
    ):
        pack(tree, remapped, tmp_path / "out")


def test_failure_keeps_the_previous_output(tree: Path, remapped: Path, tmp_path: Path) -> None:
    """The output is replaced only after all frames are written."""
    pack(tree, remapped, tmp_path / "out")
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.*")}
    (tree / member_name(FRAME_KEYS[4], IMAGE)).write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"leftImg8bit\.png: not a PNG"):
        pack(tree, remapped, tmp_path / "out", (31, 45), processes=2)
    assert before == {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.*")}
    assert [] == list(tmp_path.glob("*.part"))


def test_disk_space_is_checked_before_decoding(tree: Path, remapped: Path, tmp_path: Path) -> None:
    """The message has required and free space; five frames of 2^46 pixels fit on no disk."""
    for key in FRAME_KEYS:
        (tree / member_name(key, IMAGE)).unlink()
    with pytest.raises(ValueError, match=r": 1407\d+\.\d GB more .* only \d+\.\d GB are free"):
        pack(tree, remapped, tmp_path / "out", (2**23, 2**23))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("call", ["posix_fallocate", "write"])
def test_full_disk_keeps_nothing(
    tree: Path, remapped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """A disk that fills during allocation or writing gives one message, and nothing is kept."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if call == "write":
        monkeypatch.setattr("pipeline.stages.pack.write_frame", full)
    else:
        monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(ValueError, match=r"is full \(No space left on device\); nothing was kept"):
        pack(tree, remapped, tmp_path / "out")
    assert [] == list(tmp_path.glob("out*"))


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="needs Linux to measure the peak"
)
def test_memory_does_not_grow_with_the_data_set(tree: Path, remapped: Path, tmp_path: Path) -> None:
    """The peak memory of packing 120 MB is that of a few frames."""
    pack(tree, remapped, tmp_path / "out", (512, 1024))  # loads libraries
    header, *rows = (remapped / "frames.csv").read_text().splitlines()
    table = [header, rows[3]]
    for number in range(60):
        key = f"train/avalon/avalon_{number:06}_000020"
        table.append(rows[0].replace(FRAME_KEYS[0], key))
        (tree / member_name(key, IMAGE)).symlink_to(tree / member_name(FRAME_KEYS[0], IMAGE))
    (remapped / "frames.csv").write_text("\n".join(table))
    with zipfile.ZipFile(remapped / "labels.zip", "a") as labels:
        content = labels.read(member_name(FRAME_KEYS[0], TRAIN_IDS))
        for row in table[2:]:
            labels.writestr(member_name(row.split(",")[0], TRAIN_IDS), content)
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = peak_mib()
    pack(tree, remapped, tmp_path / "out", (512, 1024), processes=1)
    assert 120 < sum(path.stat().st_size for path in (tmp_path / "out").rglob("*")) / 2**20
    assert 30 > peak_mib() - before


def peak_mib() -> float:
    """Return the peak memory of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
