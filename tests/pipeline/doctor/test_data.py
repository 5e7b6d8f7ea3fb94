import shutil
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.dataset.archive import IMAGE, LABEL_IDS, TRAIN_IDS, member_name
from pipeline.doctor import data
from pipeline.stages import remap
from pipeline.stages.download import IMAGE_ZIP, LABEL_ZIP
from tests.pipeline.conftest import FRAME_KEYS, SIZE, save_png

REMAP = remap.Remap(split="official", held_out=0.2, seed=0)


def zip_tree(tree: Path, raw: Path) -> None:
    """Write both packages of a tree as zips, as `download` does."""
    raw.mkdir(exist_ok=True)
    for name, package in ((IMAGE_ZIP, "leftImg8bit"), (LABEL_ZIP, "gtFine")):
        with zipfile.ZipFile(raw / name, "w") as archive:
            for path in sorted((tree / package).rglob("*.png")):
                archive.write(path, path.relative_to(tree).as_posix())


@pytest.fixture
def raw(tree: Path, tmp_path: Path) -> Path:
    """The output folder of `download`."""
    zip_tree(tree, tmp_path / "raw")
    return tmp_path / "raw"


@pytest.fixture
def remapped(raw: Path, tmp_path: Path) -> Path:
    """The output folder of `remap`."""
    remap.remap_labels(
        REMAP,
        images=raw / IMAGE_ZIP,
        ground_truth=raw / LABEL_ZIP,
        out=tmp_path / "remapped",
        progress=lambda done, total: None,
        processes=1,
    )
    return tmp_path / "remapped"


def change_table(path: Path, column: str, value: object, row: int = 0) -> None:
    """Replace one cell of a table."""
    table = pd.read_csv(path)
    table.loc[row, column] = value
    table.to_csv(path, index=False)


def test_frames_are_counted_per_split(raw: Path, remapped: Path) -> None:
    """The zips are counted per split, the tables also by cities and frame size."""
    (packages,) = data.check_packages(raw, train_extra=False)
    assert "images: train 3, val 2" == packages.message
    train, val, *_ = data.check_tables(remapped)
    assert "train: 3 frames from 2 cities, 32 x 64 pixels" == train.message
    assert "val: 2 frames from 1 city, 32 x 64 pixels" == val.message


def test_complete_data_set_is_ok(raw: Path, remapped: Path) -> None:
    """No check fails, and all five frames are decoded."""
    sample = data.check_sample_frames(raw, remapped)
    findings = [*data.check_packages(raw, train_extra=False), *data.check_tables(remapped), sample]
    assert all(finding.ok for finding in findings)
    assert sample.message.startswith("5 frames decoded")


def test_missing_zip(raw: Path) -> None:
    """The message names the zip and the command that restores it."""
    (raw / LABEL_ZIP).unlink()
    (finding,) = data.check_packages(raw, train_extra=False)
    assert not finding.ok
    assert f"{LABEL_ZIP} is missing: `dvc checkout`" in finding.message


def test_truncated_zip(raw: Path) -> None:
    """A truncated zip is named in a finding, without an exception."""
    content = (raw / IMAGE_ZIP).read_bytes()
    (raw / IMAGE_ZIP).write_bytes(content[: len(content) // 2])
    (finding,) = data.check_packages(raw, train_extra=False)
    assert not finding.ok
    assert IMAGE_ZIP in finding.message


def test_frame_without_a_label(tree: Path, raw: Path) -> None:
    """The image without a label is named."""
    (tree / member_name(FRAME_KEYS[1], LABEL_IDS)).unlink()
    zip_tree(tree, raw)
    _, finding = data.check_packages(raw, train_extra=False)
    assert not finding.ok
    assert "1 problem in the pairs of images and labels" in finding.message
    assert f"(first: {member_name(FRAME_KEYS[1], IMAGE)} has no label: " in finding.message


def test_frame_in_only_one_table(remapped: Path) -> None:
    """Tables of different runs do not match."""
    change_table(remapped / "frames.csv", "frame", "train/avalon/avalon_000009_000019")
    (finding,) = data.check_tables(remapped)
    assert not finding.ok
    assert "2 are in only one of them" in finding.message


def test_missing_table(remapped: Path) -> None:
    """The message has the command that restores the table."""
    (remapped / "frames.csv").unlink()
    (finding,) = data.check_tables(remapped)
    assert not finding.ok
    assert "`dvc repro --force remap`" in finding.message


@pytest.mark.parametrize(
    ("name", "column", "value"),
    [
        ("frames.csv", "rows", "many"),
        ("frames.csv", "columns", ""),
        ("pixel_counts.csv", "id_7", "1.5"),
    ],
)
def test_invalid_number_in_a_table(remapped: Path, name: str, column: str, value: str) -> None:
    """The remedy for one invalid cell is to write the table again."""
    path = remapped / name
    table = pd.read_csv(path, dtype=str)
    table.loc[0, column] = value
    table.to_csv(path, index=False)
    (finding,) = data.check_tables(remapped)
    assert not finding.ok
    assert "`dvc repro --force remap`" in finding.message


@pytest.mark.parametrize(
    ("name", "column"), [("frames.csv", "split"), ("pixel_counts.csv", "id_33")]
)
def test_missing_column(remapped: Path, name: str, column: str) -> None:
    """The table and the column are named."""
    pd.read_csv(remapped / name).drop(columns=column).to_csv(remapped / name, index=False)
    (finding,) = data.check_tables(remapped)
    assert f"{remapped / name} has no column {column!r}" in finding.message


@pytest.mark.parametrize("content", ["", "\0\0\0", 'frame,split\n"', "\xff\xfe\x80"])
def test_damaged_table(remapped: Path, content: str) -> None:
    """A file that is no table gives the command that restores it."""
    (remapped / "frames.csv").write_bytes(content.encode("latin-1"))
    (finding,) = data.check_tables(remapped)
    assert not finding.ok
    assert "`dvc repro --force remap`" in finding.message


@pytest.mark.parametrize("name", ["frames.csv", "pixel_counts.csv"])
def test_duplicate_frame_in_a_table(remapped: Path, name: str) -> None:
    """A duplicate frame in either table is named."""
    table = pd.read_csv(remapped / name)
    pd.concat([table, table[:1]]).to_csv(remapped / name, index=False)
    (finding,) = data.check_tables(remapped)
    assert f"{remapped / name} has {FRAME_KEYS[0]} twice" in finding.message


def test_counts_that_do_not_sum_to_the_frame_size(remapped: Path) -> None:
    """A frame whose pixel counts do not sum to its size is named."""
    change_table(remapped / "pixel_counts.csv", "id_7", 10**6)
    (failed,) = [finding for finding in data.check_tables(remapped) if not finding.ok]
    expected = f"pixel counts of 1 frame do not sum to the frame size (first: {FRAME_KEYS[0]})"
    assert expected in str(failed)


def test_classes_absent_from_training_are_named(remapped: Path) -> None:
    """An absent class may be intended: the finding is ok, but reported."""
    table = pd.read_csv(remapped / "pixel_counts.csv")
    table["id_0"] += table["id_31"]
    table["id_31"] = 0
    table.to_csv(remapped / "pixel_counts.csv", index=False)
    (absent,) = [one for one in data.check_tables(remapped) if "absent from" in one.message]
    assert "absent from the training frames: train; no loss can learn them" == absent.message
    assert absent.ok


def test_histogram_by_hand() -> None:
    """There is a line per label id that occurs; the lengths of the bars are logarithmic."""
    pixels = np.zeros(34, dtype=np.int64)
    pixels[[0, 7, 33]] = 90, 900, 10
    void, road, bicycle = data.format_histogram(pixels)
    assert void.split()[:4] == ["0", "unlabeled", "9.000", "%"]
    assert road.split()[:4] == ["7", "road", "90.000", "%"]
    assert [30, 17, 4] == [line.count("#") for line in (road, void, bicycle)]


def test_histogram_without_pixels() -> None:
    """Without pixels there are no lines."""
    assert () == data.format_histogram(np.zeros(34, dtype=np.int64))


def test_replaced_label_is_found(tree: Path, raw: Path, remapped: Path) -> None:
    """A label whose pixels changed matches neither the counts nor the remapped label."""
    save_png(tree / member_name(FRAME_KEYS[0], LABEL_IDS), np.full(SIZE, 7, np.uint8))
    zip_tree(tree, raw)
    finding = data.check_sample_frames(raw, remapped)
    assert not finding.ok
    assert (
        f"{FRAME_KEYS[0]}: the label differs from the label that remap counted" in finding.message
    )
    assert f"{FRAME_KEYS[0]}: the remapped label does not match this label" in finding.message


def test_invalid_label_id_is_found(tree: Path, raw: Path, remapped: Path) -> None:
    """The message has the value and the valid range."""
    save_png(tree / member_name(FRAME_KEYS[0], LABEL_IDS), np.full(SIZE, 77, np.uint8))
    zip_tree(tree, raw)
    finding = data.check_sample_frames(raw, remapped)
    assert f"{FRAME_KEYS[0]}: the label has the value 77; valid are 0 to 33" in finding.message


def test_uniform_image_is_found(tree: Path, raw: Path, remapped: Path) -> None:
    """An image with one value for all pixels is reported."""
    save_png(tree / member_name(FRAME_KEYS[-1], IMAGE), np.full((*SIZE, 3), 128, np.uint8))
    zip_tree(tree, raw)
    finding = data.check_sample_frames(raw, remapped)
    assert f"{FRAME_KEYS[-1]}: every pixel of the image is 128" in finding.message


def test_different_sizes_are_found(tree: Path, raw: Path, remapped: Path) -> None:
    """An image of another size than its label is reported."""
    random = np.random.default_rng(1).integers(0, 256, (16, 32, 3), dtype=np.uint8)
    save_png(tree / member_name(FRAME_KEYS[0], IMAGE), random)
    zip_tree(tree, raw)
    finding = data.check_sample_frames(raw, remapped)
    assert (
        f"{FRAME_KEYS[0]}: the size of the image is (16, 32), of its label (32, 64)"
        in finding.message
    )


def test_damaged_image_is_found(tree: Path, raw: Path, remapped: Path) -> None:
    """The damaged file is named, and the check ends there."""
    (tree / member_name(FRAME_KEYS[0], IMAGE)).write_bytes(b"no picture")
    zip_tree(tree, raw)
    finding = data.check_sample_frames(raw, remapped)
    assert not finding.ok
    assert f"{member_name(FRAME_KEYS[0], IMAGE)}: not a PNG" in finding.message


def test_missing_remapped_label_is_found(raw: Path, remapped: Path) -> None:
    """A frame that is missing in labels.zip is named."""
    with zipfile.ZipFile(remapped / "labels.zip") as whole:
        contents = {name: whole.read(name) for name in whole.namelist()}
    del contents[member_name(FRAME_KEYS[2], TRAIN_IDS)]
    with zipfile.ZipFile(remapped / "less.zip", "w") as less:
        for name, content in contents.items():
            less.writestr(name, content)
    shutil.move(remapped / "less.zip", remapped / "labels.zip")
    finding = data.check_sample_frames(raw, remapped)
    assert not finding.ok
    assert f"{member_name(FRAME_KEYS[2], TRAIN_IDS)} is missing" in finding.message


def test_damaged_source_record(tmp_path: Path) -> None:
    """A truncated source.json gives the command that restores it."""
    (tmp_path / "source.json").write_text('{"source": "fol')
    (finding,) = data.check_source(tmp_path / "source.json")
    assert not finding.ok
    assert "is damaged: `dvc repro --force download`" in finding.message
