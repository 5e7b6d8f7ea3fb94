"""The coarsely labeled frames, from a folder through download, remap, frequency and pack."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.dataset.archive import COARSE_LABEL_IDS, IMAGE, Archive, member_name
from pipeline.doctor import data
from pipeline.stages import download, frequency, pack, remap
from segformer.cityscapes import train_id_table
from segformer.data.packed_frames import PackedFrames
from tests.pipeline.conftest import FRAME_KEYS, SIZE, save_png

EXTRA = (
    "train_extra/bad-honnef/bad-honnef_000000_000000",
    "train_extra/erlangen/erlangen_000000_000000",
    "train_extra/erlangen/erlangen_000001_000000",
)
TROISDORF = "train_extra/troisdorf/troisdorf_000000_000073"
WITH_EXTRA = remap.Remap(split="official", held_out=0.2, seed=0, train_extra=True)


def ignore_progress(done: int, total: int) -> None:
    """Discard progress."""


@pytest.fixture
def with_extra(tree: Path) -> Path:
    """The tree with three coarse frames, and coarse labels of a fine frame."""
    random = np.random.default_rng(1)
    for key in (*EXTRA, FRAME_KEYS[0]):
        if key in EXTRA:
            image = random.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
            save_png(tree / member_name(key, IMAGE), image)
        label_ids = random.integers(0, 34, SIZE, dtype=np.uint8)
        save_png(tree / member_name(key, COARSE_LABEL_IDS), label_ids)
    return tree


def import_tree(tree: Path, raw: Path, *, train_extra: bool = True) -> None:
    """Run download with the tree as its source folder."""
    source = download.Download(
        source="folder",
        folder=str(tree),
        train_extra=train_extra,
        synthetic=download.Synthetic(train=1, val=1, size=SIZE, seed=0),
    )
    download.download_data(source, out=raw, progress=ignore_progress)


@pytest.fixture
def remapped(with_extra: Path, tmp_path: Path) -> Callable[..., str]:
    """A function that runs download and remap, and returns the summary of remap."""

    def run_remap(params: remap.Remap = WITH_EXTRA, *, train_extra: bool = True) -> str:
        raw = tmp_path / "download"
        import_tree(with_extra, raw, train_extra=train_extra)
        return remap.remap_labels(
            params,
            images=raw / download.IMAGE_ZIP,
            ground_truth=raw / download.LABEL_ZIP,
            extra=raw / "train_extra",
            out=tmp_path / "remap",
            progress=ignore_progress,
        )

    return run_remap


def pack_training_frames(tmp_path: Path) -> PackedFrames:
    """Run pack on the output of remap; return the training frames."""
    pack.pack_frames(
        pack.Pack(size=SIZE),
        images=tmp_path / "download" / download.IMAGE_ZIP,
        labels=tmp_path / "remap" / "labels.zip",
        frames=tmp_path / "remap" / "frames.csv",
        extra=tmp_path / "download" / "train_extra",
        out=tmp_path / "pack",
        progress=ignore_progress,
    )
    return PackedFrames.open(tmp_path / "pack" / "train")


def test_coarse_frames_reach_training(
    with_extra: Path, remapped: Callable[..., str], tmp_path: Path
) -> None:
    """They are packed after the fine ones, each with its own photograph and coarse labels."""
    remapped()
    frames = pack_training_frames(tmp_path)
    assert [*FRAME_KEYS[:3], *EXTRA] == frames.names
    for index, key in enumerate(EXTRA, start=3):
        photograph = np.asarray(Image.open(with_extra / member_name(key, IMAGE)))
        label_ids = np.asarray(Image.open(with_extra / member_name(key, COARSE_LABEL_IDS)))
        np.testing.assert_array_equal(photograph, frames.images[index])
        np.testing.assert_array_equal(train_id_table()[label_ids], frames.labels[index])
    assert list(FRAME_KEYS[3:]) == PackedFrames.open(tmp_path / "pack" / "val").names


def test_coarse_frames_are_marked(remapped: Callable[..., str], tmp_path: Path) -> None:
    """By their split in frames.csv, their official name in labels.zip, and the protocol id."""
    summary = remapped()
    assert "3 train, 3 train_extra, 2 val frames (official+train_extra)" in summary
    frames = pd.read_csv(tmp_path / "remap" / "frames.csv").set_index("frame")
    assert {"train_extra"} == set(frames.loc[list(EXTRA), "split"])
    with Archive(tmp_path / "remap" / "labels.zip") as labels:
        coarse = [name for name in labels.names() if name.startswith("gtCoarse")]
    assert [f"gtCoarse/{key}_gtCoarse_labelTrainIds.png" for key in EXTRA] == coarse


def test_coarse_frames_are_counted(remapped: Callable[..., str], tmp_path: Path) -> None:
    """Their counts are separate by split; in weights and sampling they are training frames."""
    remapped()
    frequency.count_classes(
        frequency.Frequency(temperature=0.01, beta=0.999),
        frames=tmp_path / "remap" / "frames.csv",
        pixel_counts=tmp_path / "remap" / "pixel_counts.csv",
        out=tmp_path,
    )
    by_split = pd.read_csv(tmp_path / "per_split.csv").groupby("split")["pixels"].sum()
    pixels = SIZE[0] * SIZE[1]
    assert {"train": 3 * pixels, "train_extra": 3 * pixels, "val": 2 * pixels} == dict(by_split)
    assert (
        pack_training_frames(tmp_path).names
        == pd.read_csv(tmp_path / "sampling.csv")["frame"].tolist()
    )


def test_the_doctor_checks_coarse_frames(remapped: Callable[..., str], tmp_path: Path) -> None:
    """They are counted, and decoded like the others."""
    remapped()
    (packages,) = data.check_packages(tmp_path / "download", train_extra=True)
    assert "images: train 3, val 2, train_extra 3" == packages.message
    sample = data.check_sample_frames(tmp_path / "download", tmp_path / "remap")
    assert sample.message.startswith("8 frames decoded")
    assert sample.ok


def test_the_doctor_finds_problems_of_coarse_frames(
    with_extra: Path, remapped: Callable[..., str], tmp_path: Path
) -> None:
    """Labels that were replaced after remap, and a missing one."""
    remapped()
    save_png(with_extra / member_name(EXTRA[0], COARSE_LABEL_IDS), np.full(SIZE, 7, np.uint8))
    raw = tmp_path / "download"
    import_tree(with_extra, raw)
    sample = data.check_sample_frames(raw, tmp_path / "remap")
    assert f"{EXTRA[0]}: the label differs from the label that remap counted" in sample.message
    (with_extra / member_name(EXTRA[0], COARSE_LABEL_IDS)).unlink()
    import_tree(with_extra, raw)
    _, finding = data.check_packages(raw, train_extra=True)
    assert f"(first: {member_name(EXTRA[0], IMAGE)} has no label: " in finding.message
    sample = data.check_sample_frames(raw, tmp_path / "remap")
    assert f"{EXTRA[0]} has no label in {raw / 'train_extra' / 'gtCoarse.zip'}" in sample.message


def test_coarse_frames_are_never_held_out(remapped: Callable[..., str], tmp_path: Path) -> None:
    """The splits for validation and the final score have finely labeled frames only."""
    remapped(remap.Remap(split="random", held_out=0.9, seed=0, train_extra=True))
    frames = pd.read_csv(tmp_path / "remap" / "frames.csv").set_index("frame")["split"]
    assert {"train": 1, "train_extra": 3, "val": 2, "test": 2} == dict(frames.value_counts())
    assert {"train_extra"} == set(frames[list(EXTRA)])


def test_a_city_in_both_train_extra_and_val_is_a_warning(
    with_extra: Path, remapped: Callable[..., str]
) -> None:
    """Coarse frames of a validation city resemble frames of val: there is a warning."""
    key = "train_extra/lyonesse/lyonesse_000002_000019"
    save_png(with_extra / member_name(key, IMAGE), np.zeros((*SIZE, 3), np.uint8))
    save_png(with_extra / member_name(key, COARSE_LABEL_IDS), np.zeros(SIZE, np.uint8))
    assert "warning: 1 city has frames in both train and val (first: lyonesse)" in remapped()


def test_the_known_broken_frame_is_left_out(
    with_extra: Path, remapped: Callable[..., str], tmp_path: Path
) -> None:
    """As in the official package, or with the photograph deleted: a message, and no error."""
    photograph = with_extra / member_name(TROISDORF, IMAGE)
    save_png(photograph, np.zeros(SIZE, np.uint8))
    save_png(with_extra / member_name(TROISDORF, COARSE_LABEL_IDS), np.zeros(SIZE, np.uint8))
    assert f"left out: {TROISDORF}, a known broken frame" in remapped()
    photograph.unlink()
    assert "3 train_extra, 2 val frames" in remapped()
    assert TROISDORF not in (tmp_path / "remap" / "frames.csv").read_text()


def test_any_other_broken_frame_is_an_error(with_extra: Path, remapped: Callable[..., str]) -> None:
    """A coarse label without its photograph and an unknown id are one message."""
    (with_extra / member_name(EXTRA[0], IMAGE)).unlink()
    save_png(with_extra / member_name(EXTRA[1], COARSE_LABEL_IDS), np.full(SIZE, 40, np.uint8))
    with pytest.raises(ValueError, match="remap: 2 problems") as error:
        remapped()
    assert f"{member_name(EXTRA[0], COARSE_LABEL_IDS)} has no photograph" in str(error.value)
    assert f"{member_name(EXTRA[1], COARSE_LABEL_IDS)} has id 40 at" in str(error.value)


def test_missing_coarse_packages_are_named(remapped: Callable[..., str], tmp_path: Path) -> None:
    """The error has the missing zips and the parameter that downloads them; so has pack's."""
    expected = r"leftImg8bit_trainextra\.zip and .*gtCoarse\.zip missing"
    with pytest.raises(ValueError, match=expected):
        remapped(train_extra=False)
    remapped()
    (tmp_path / "download" / "train_extra" / "leftImg8bit_trainextra.zip").unlink()
    with pytest.raises(ValueError, match=r"set download\.train_extra to true"):
        pack_training_frames(tmp_path)


def test_coarse_frames_are_ignored_unless_enabled(
    remapped: Callable[..., str], tmp_path: Path
) -> None:
    """Downloaded, but not enabled in remap, they change nothing."""
    remapped(remap.Remap(split="official", held_out=0.2, seed=0))
    assert list(FRAME_KEYS[:3]) == pack_training_frames(tmp_path).names
