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


def zipped(tree: Path, raw: Path) -> None:
    """Both packages of a tree, as `download` leaves them."""
    raw.mkdir(exist_ok=True)
    for name, package in ((IMAGE_ZIP, "leftImg8bit"), (LABEL_ZIP, "gtFine")):
        with zipfile.ZipFile(raw / name, "w") as archive:
            for path in sorted((tree / package).rglob("*.png")):
                archive.write(path, path.relative_to(tree).as_posix())


@pytest.fixture
def raw(tree: Path, tmp_path: Path) -> Path:
    """The folder of `download`."""
    zipped(tree, tmp_path / "raw")
    return tmp_path / "raw"


@pytest.fixture
def remapped(raw: Path, tmp_path: Path) -> Path:
    """The folder of `remap`."""
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
    """Write one cell of a table anew."""
    table = pd.read_csv(path)
    table.loc[row, column] = value
    table.to_csv(path, index=False)


def test_frames_are_counted(raw: Path, remapped: Path) -> None:
    """Per split: how many in the zip, and in the tables with cities and size."""
    (packages,) = data.check_packages(raw, train_extra=False)
    assert "photographs: train 3, val 2" == packages.message
    train, val, *_ = data.check_tables(remapped)
    assert "train: 3 frames from 2 cities, 32 x 64 pixels" == train.message
    assert "val: 2 frames from 1 city, 32 x 64 pixels" == val.message


def test_a_whole_set_is_well(raw: Path, remapped: Path) -> None:
    """Nothing is to be mended, and all five frames were decoded."""
    deep = data.check_sample_frames(raw, remapped)
    findings = [*data.check_packages(raw, train_extra=False), *data.check_tables(remapped), deep]
    assert all(finding.ok for finding in findings)
    assert deep.message.startswith("5 frames decoded")


def test_a_missing_zip_is_told(raw: Path) -> None:
    """Its name, and what brings it back."""
    (raw / LABEL_ZIP).unlink()
    (finding,) = data.check_packages(raw, train_extra=False)
    assert not finding.ok
    assert f"{LABEL_ZIP} is missing: `dvc checkout`" in finding.message


def test_half_a_zip_is_told(raw: Path) -> None:
    """A zip cut short is named, and is no crash."""
    content = (raw / IMAGE_ZIP).read_bytes()
    (raw / IMAGE_ZIP).write_bytes(content[: len(content) // 2])
    (finding,) = data.check_packages(raw, train_extra=False)
    assert not finding.ok
    assert IMAGE_ZIP in finding.message


def test_a_frame_without_a_label_is_told(tree: Path, raw: Path) -> None:
    """The frame that has no partner is named."""
    (tree / member_name(FRAME_KEYS[1], LABEL_IDS)).unlink()
    zipped(tree, raw)
    _, finding = data.check_packages(raw, train_extra=False)
    assert not finding.ok
    assert "1 problem where photographs and labels are paired" in finding.message
    assert f"(first: {member_name(FRAME_KEYS[1], IMAGE)} has no label: " in finding.message


def test_a_frame_that_one_table_lacks_is_told(remapped: Path) -> None:
    """Tables of different runs do not belong together."""
    change_table(remapped / "frames.csv", "frame", "train/avalon/avalon_000009_000019")
    (finding,) = data.check_tables(remapped)
    assert not finding.ok
    assert "2 stand in one of them only" in finding.message


def test_a_table_that_is_gone_is_told(remapped: Path) -> None:
    """No traceback: the remedy."""
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
def test_a_number_that_is_none_is_told(remapped: Path, name: str, column: str, value: str) -> None:
    """One odd field is the table's fault, and the remedy is to write it anew."""
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
def test_a_column_that_is_missing_is_told(remapped: Path, name: str, column: str) -> None:
    """The table and the column are named."""
    pd.read_csv(remapped / name).drop(columns=column).to_csv(remapped / name, index=False)
    (finding,) = data.check_tables(remapped)
    assert f"{remapped / name} has no column {column!r}" in finding.message


@pytest.mark.parametrize("content", ["", "\0\0\0", 'frame,split\n"', "\xff\xfe\x80"])
def test_a_table_that_is_none_is_told(remapped: Path, content: str) -> None:
    """Whatever a crash left in its place."""
    (remapped / "frames.csv").write_bytes(content.encode("latin-1"))
    (finding,) = data.check_tables(remapped)
    assert not finding.ok
    assert "`dvc repro --force remap`" in finding.message


@pytest.mark.parametrize("name", ["frames.csv", "pixel_counts.csv"])
def test_a_frame_that_stands_there_twice_is_told(remapped: Path, name: str) -> None:
    """In either table."""
    table = pd.read_csv(remapped / name)
    pd.concat([table, table[:1]]).to_csv(remapped / name, index=False)
    (finding,) = data.check_tables(remapped)
    assert f"{remapped / name} names {FRAME_KEYS[0]} twice" in finding.message


def test_counts_that_do_not_fill_the_frame_are_told(remapped: Path) -> None:
    """The counts of a frame must sum to its pixels."""
    change_table(remapped / "pixel_counts.csv", "id_7", 10**6)
    wrong = [one for one in data.check_tables(remapped) if not one.ok]
    assert 1 == len(wrong)
    assert f"1 frame counted with other pixels than they have (first: {FRAME_KEYS[0]})" in str(
        wrong[0]
    )


def test_classes_that_are_never_trained_on_are_told(remapped: Path) -> None:
    """It may be meant so, hence it is well; but it is said."""
    table = pd.read_csv(remapped / "pixel_counts.csv")
    table["id_0"] += table["id_31"]
    table["id_31"] = 0
    table.to_csv(remapped / "pixel_counts.csv", index=False)
    told = [one for one in data.check_tables(remapped) if "never in training" in one.message]
    assert ["never in training: train; no loss can learn them"] == [one.message for one in told]
    assert told[0].ok


def test_the_histogram_by_hand() -> None:
    """A line per value that occurs; a tenth of the pixels has a bar that is not a tenth as long."""
    pixels = np.zeros(34, dtype=np.int64)
    pixels[[0, 7, 33]] = 90, 900, 10
    void, road, bicycle = data.format_histogram(pixels)
    assert void.split()[:4] == ["0", "unlabeled", "9.000", "%"]
    assert road.split()[:4] == ["7", "road", "90.000", "%"]
    assert [30, 17, 4] == [line.count("#") for line in (road, void, bicycle)]


def test_the_histogram_of_nothing() -> None:
    """Without pixels there are no lines."""
    assert () == data.format_histogram(np.zeros(34, dtype=np.int64))


def test_labels_that_were_replaced_are_found(tree: Path, raw: Path, remapped: Path) -> None:
    """Other pixels under the same name: what was counted and remapped is no longer this label."""
    save_png(tree / member_name(FRAME_KEYS[0], LABEL_IDS), np.full(SIZE, 7, np.uint8))
    zipped(tree, raw)
    finding = data.check_sample_frames(raw, remapped)
    assert not finding.ok
    assert f"{FRAME_KEYS[0]}: the label is not the one that remap counted" in finding.message
    assert f"{FRAME_KEYS[0]}: the remapped label is not made from this one" in finding.message


def test_a_value_that_no_label_has_is_found(tree: Path, raw: Path, remapped: Path) -> None:
    """The value and what is allowed."""
    save_png(tree / member_name(FRAME_KEYS[0], LABEL_IDS), np.full(SIZE, 77, np.uint8))
    zipped(tree, raw)
    finding = data.check_sample_frames(raw, remapped)
    assert f"{FRAME_KEYS[0]}: the label has the value 77, and only 0 to 33 exist" in finding.message


def test_an_empty_photograph_is_found(tree: Path, raw: Path, remapped: Path) -> None:
    """One grey for all pixels is no street."""
    save_png(tree / member_name(FRAME_KEYS[-1], IMAGE), np.full((*SIZE, 3), 128, np.uint8))
    zipped(tree, raw)
    finding = data.check_sample_frames(raw, remapped)
    assert f"{FRAME_KEYS[-1]}: every pixel of the photograph is 128" in finding.message


def test_sizes_that_differ_are_found(tree: Path, raw: Path, remapped: Path) -> None:
    """A photograph of another size than its label."""
    random = np.random.default_rng(1).integers(0, 256, (16, 32, 3), dtype=np.uint8)
    save_png(tree / member_name(FRAME_KEYS[0], IMAGE), random)
    zipped(tree, raw)
    finding = data.check_sample_frames(raw, remapped)
    assert f"{FRAME_KEYS[0]}: the photograph is (16, 32), its label (32, 64)" in finding.message


def test_a_damaged_picture_is_found(tree: Path, raw: Path, remapped: Path) -> None:
    """The file is named, and the look goes no further."""
    (tree / member_name(FRAME_KEYS[0], IMAGE)).write_bytes(b"no picture")
    zipped(tree, raw)
    finding = data.check_sample_frames(raw, remapped)
    assert not finding.ok
    assert f"{member_name(FRAME_KEYS[0], IMAGE)} cannot be read (no PNG)" in finding.message


def test_a_label_missing_from_the_remapped_ones_is_found(raw: Path, remapped: Path) -> None:
    """labels.zip of another run lacks a frame."""
    with zipfile.ZipFile(remapped / "labels.zip") as whole:
        kept = {name: whole.read(name) for name in whole.namelist()}
    del kept[member_name(FRAME_KEYS[2], TRAIN_IDS)]
    with zipfile.ZipFile(remapped / "less.zip", "w") as less:
        for name, content in kept.items():
            less.writestr(name, content)
    shutil.move(remapped / "less.zip", remapped / "labels.zip")
    finding = data.check_sample_frames(raw, remapped)
    assert not finding.ok
    assert f"{member_name(FRAME_KEYS[2], TRAIN_IDS)} is missing" in finding.message


def test_a_damaged_source_is_told(tmp_path: Path) -> None:
    """source.json cut short gives the remedy."""
    (tmp_path / "source.json").write_text('{"source": "fol')
    (finding,) = data.check_source(tmp_path / "source.json")
    assert not finding.ok
    assert "is damaged: `dvc repro --force download`" in finding.message
