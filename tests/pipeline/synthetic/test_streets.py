"""Drawn streets have all classes, realistic shares, official names and reproducible bytes."""

import hashlib
import io
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy._core._multiarray_umath import (  # the only list of CPU features that can be disabled
    __cpu_dispatch__,
    __cpu_features__,
)
from numpy.typing import NDArray
from PIL import Image

from pipeline.dataset.official_counts import OFFICIAL_PIXELS
from pipeline.synthetic import SyntheticFrame, draw_frame, write
from pipeline.synthetic.canvas import Canvas
from pipeline.synthetic.finish import expose
from pipeline.synthetic.people import build_walker, paint_limbs
from pipeline.synthetic.scene import open_view, paint_back_to_front, paint_scene
from pipeline.synthetic.solids import Pose
from pipeline.synthetic.writing import CITIES, FIRST_SEQUENCE
from segformer.cityscapes import CLASSES, LABELS


def _draw(*seed: int, size: tuple[int, int] = (64, 128)) -> SyntheticFrame:
    return draw_frame(np.random.default_rng(seed), size)


@pytest.fixture(scope="module")
def counts() -> NDArray[np.int64]:
    """(34,) pixels of each label id over sixteen small frames."""
    frames = [_draw(6, number) for number in range(16)]
    return np.bincount(np.stack([f.label_ids for f in frames]).ravel(), minlength=len(LABELS))


def _ignore(done: int, total: int) -> None:
    """Ignore progress."""


def _write(folder: Path, *, seed: int = 3, processes: int | None = 1) -> tuple[Path, Path]:
    paths = folder / "images.zip", folder / "labels.zip"
    write(*paths, train=3, val=2, size=(32, 64), seed=seed, progress=_ignore, processes=processes)
    return paths


@pytest.fixture(scope="module")
def zips(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Three train and two val frames, written by this process."""
    return _write(tmp_path_factory.mktemp("drawn"))


def _digests(paths: tuple[Path, Path]) -> list[str]:
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]


def _pictures(archive: Path, ending: str) -> Iterator[Image.Image]:
    with zipfile.ZipFile(archive) as opened:
        for name in opened.namelist():
            if name.endswith(ending):
                yield Image.open(io.BytesIO(opened.read(name)))


def test_every_class_occurs(counts: NDArray[np.int64]) -> None:
    """All 19 classes occur in a small set."""
    assert [] == [label.name for label in CLASSES if not counts[label.label_id]]


def test_void_is_about_a_tenth(counts: NDArray[np.int64]) -> None:
    """Void covers 6 to 15 % (the real set: 11.5 %), with many kinds."""
    scored = sum(int(counts[label.label_id]) for label in CLASSES)
    assert 0.06 < 1 - scored / counts.sum() < 0.15
    names = ("ego vehicle", "rectification border", "out of roi", "static", "ground", "parking")
    absent = [x.name for x in LABELS if x.name in names and not counts[x.label_id]]
    assert [] == absent


def test_classes_are_as_unequal_as_the_real_ones(counts: NDArray[np.int64]) -> None:
    """Road covers over 30 %, more than any other class; motorcycles cover under 1 %."""
    share = {label.name: counts[label.label_id] / counts.sum() for label in LABELS}
    assert "road" == max(share, key=lambda name: share[name])
    assert share["road"] > 0.30
    assert share["building"] > 0.10
    assert share["vegetation"] > 0.07
    assert 0 < share["motorcycle"] < 0.01
    assert share["motorcycle"] < share["person"] < share["car"] < share["building"]


def test_frequent_classes_have_about_the_real_share(counts: NDArray[np.int64]) -> None:
    """Classes above 1 % of the real train split have half to twice their share there."""
    real = np.array(OFFICIAL_PIXELS) / sum(OFFICIAL_PIXELS)
    frequent = [label for label in CLASSES if real[label.label_id] > 0.01]
    assert 9 == len(frequent)
    ratios = {
        label.name: counts[label.label_id] / counts.sum() / real[label.label_id]
        for label in frequent
    }
    assert {} == {name: ratio for name, ratio in ratios.items() if not 0.5 <= ratio <= 2}


def test_shapes_and_types() -> None:
    """A frame has an RGB image of the requested size and ids of the official types."""
    frame = _draw(1, size=(40, 72))
    assert ((40, 72, 3), np.uint8) == (frame.image.shape, frame.image.dtype)
    assert ((40, 72), np.uint8) == (frame.label_ids.shape, frame.label_ids.dtype)
    assert ((40, 72), np.uint16) == (frame.instance_ids.shape, frame.instance_ids.dtype)


def test_instances_agree_with_labels() -> None:
    """An instance id divided by 1000 is its label; a smaller one is the label itself."""
    with_instances = {label.label_id for label in LABELS if label.has_instances}
    for number in range(4):
        frame = _draw(2, number)
        ids = frame.instance_ids.astype(int)
        expected = np.where(ids >= 1000, ids // 1000, ids)
        assert np.array_equal(expected, frame.label_ids)
        assert {int(i) for i in np.unique(expected[ids >= 1000])} <= with_instances


def test_distant_objects_are_groups() -> None:
    """Objects beyond some distance have their label id as instance id, as groups do."""
    canvas = Canvas(32, 32)
    assert [26_000, 26_001, 26] == [canvas.new_instance("car", z) for z in (9.0, 70.0, 90.0)]


@pytest.mark.parametrize("size", [(97, 131), (32, 32), (130, 61), (33, 200), (514, 64)])
def test_any_size_can_be_drawn(size: tuple[int, int]) -> None:
    """Odd, square, upright and wide frames can be drawn."""
    frame = _draw(5, size=size)
    assert size == frame.label_ids.shape
    assert np.isin(frame.label_ids, [7, 11, 21]).mean() > 0.2


def test_too_small_frame_is_refused() -> None:
    """A side below 32 pixels is refused."""
    with pytest.raises(ValueError, match="20x64 is too small; use 32x32 or more"):
        _draw(1, size=(20, 64))


def test_same_generator_gives_the_same_frame() -> None:
    """Equal generators give equal frames, another generator gives another frame."""
    first, again, other = _draw(1, 2), _draw(1, 2), _draw(1, 3)
    assert first.image.tobytes() == again.image.tobytes()
    assert first.instance_ids.tobytes() == again.instance_ids.tobytes()
    assert first.image.tobytes() != other.image.tobytes()


_DIGEST_OF_A_FRAME = "16968014c6fef78d4f94be78aec68c6f8262ba10472f6d5e261504ffcd44acf6"
"""The digest of frame (1, 2); a change of the drawing changes the demo's data and this digest."""

_PRINT_EXPOSURE = """
import numpy
from pipeline.synthetic.canvas import Canvas
from pipeline.synthetic.finish import expose
from pipeline.synthetic.scene import open_view, paint_scene
view = open_view(numpy.random.default_rng((1, 2)), 64, 128)
paint_scene(view)
print(expose(view, 1).tobytes().hex())
"""


def test_pixels_of_a_known_frame() -> None:
    """The pixels of one frame have not changed since this test was written."""
    frame = _draw(1, 2)
    pixels = frame.image.tobytes() + frame.instance_ids.tobytes()
    assert _DIGEST_OF_A_FRAME == hashlib.sha256(pixels).hexdigest()


def test_every_processor_draws_the_same() -> None:
    """Without modern vector instructions the image has the same bits."""
    features = [name for name in __cpu_dispatch__ if __cpu_features__[name]]
    environment = os.environ | {
        "NPY_DISABLE_CPU_FEATURES": " ".join(features),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _PRINT_EXPOSURE], env=environment, check=True,
        capture_output=True, text=True,
    )  # fmt: skip
    view = open_view(np.random.default_rng((1, 2)), 64, 128)
    paint_scene(view)
    assert expose(view, 1).tobytes().hex() == done.stdout.strip()


def test_same_seed_writes_the_same_bytes(zips: tuple[Path, Path], tmp_path: Path) -> None:
    """Both zips are equal byte for byte with one seed and differ with another."""
    assert _digests(zips) == _digests(_write(tmp_path / "again"))
    assert not set(_digests(zips)) & set(_digests(_write(tmp_path / "other", seed=4)))


def test_processes_do_not_change_the_bytes(zips: tuple[Path, Path], tmp_path: Path) -> None:
    """One and two processes write the same bytes."""
    assert _digests(zips) == _digests(_write(tmp_path, processes=2))


def test_longer_set_begins_with_the_shorter_one(zips: tuple[Path, Path], tmp_path: Path) -> None:
    """A frame does not depend on the number of frames."""
    write(
        tmp_path / "i.zip", tmp_path / "l.zip", train=1, val=1, size=(32, 64), seed=3,
        progress=_ignore,
    )  # fmt: skip
    with zipfile.ZipFile(zips[0]) as longer, zipfile.ZipFile(tmp_path / "i.zip") as shorter:
        assert 2 == len(shorter.namelist())
        assert [] == [n for n in shorter.namelist() if shorter.read(n) != longer.read(n)]


def test_names_follow_the_official_layout(zips: tuple[Path, Path]) -> None:
    """File names are those of the official zips, four per frame."""
    with zipfile.ZipFile(zips[0]) as images, zipfile.ZipFile(zips[1]) as labels:
        names, label_names = images.namelist(), labels.namelist()
        assert images.testzip() is None
    assert "leftImg8bit/train/aachen/aachen_900000_000019_leftImg8bit.png" == names[0]
    assert {"train": 3, "val": 2} == {
        split: sum(name.startswith(f"leftImg8bit/{split}/") for name in names)
        for split in ("train", "val")
    }
    stems = [n.removeprefix("leftImg8bit/").removesuffix("_leftImg8bit.png") for n in names]
    kinds = ("color", "instanceIds", "labelIds")
    assert {f"gtFine/{stem}_gtFine_{kind}.png" for stem in stems for kind in kinds} == set(
        label_names
    )
    assert len(set(label_names)) == len(label_names)


def test_train_and_val_share_no_city_and_no_frame(zips: tuple[Path, Path]) -> None:
    """The splits have different cities and different pictures."""
    with zipfile.ZipFile(zips[0]) as images:
        contents = [images.read(name) for name in images.namelist()]
        cities = {split: {n.split("/")[2] for n in images.namelist() if f"/{split}/" in n}
                  for split in ("train", "val")}  # fmt: skip
    assert set() == cities["train"] & cities["val"]
    assert len(contents) == len(set(contents))


@pytest.mark.parametrize(
    ("which", "ending", "modes"),
    [
        (0, "leftImg8bit.png", {"RGB"}),
        (1, "labelIds.png", {"L"}),
        (1, "instanceIds.png", {"I;16", "I"}),
        (1, "color.png", {"RGBA"}),
    ],
)
def test_pictures_have_the_official_modes(
    zips: tuple[Path, Path], which: int, ending: str, modes: set[str]
) -> None:
    """Images are RGB, label ids 8 bit, instance ids 16 bit and colors RGBA, all of one size."""
    pictures = list(_pictures(zips[which], ending))
    assert 5 == len(pictures)
    assert {(64, 32)} == {picture.size for picture in pictures}
    assert {picture.mode for picture in pictures} <= modes


def test_colors_show_the_labels(zips: tuple[Path, Path]) -> None:
    """The color picture is the official palette applied to the label ids."""
    palette = np.array([(*label.color, 255) for label in LABELS], np.uint8)
    labels, colors = (_pictures(zips[1], end) for end in ("labelIds.png", "color.png"))
    for label, color in zip(labels, colors, strict=True):
        assert np.array_equal(palette[np.asarray(label)], np.asarray(color))


def test_no_drawn_frame_has_the_name_of_a_real_one() -> None:
    """The cities are official ones of the right split; the sequences are none that was driven."""
    assert set(CITIES["val"]) == {"frankfurt", "lindau", "munster"}
    assert len(CITIES["train"]) > 3
    assert FIRST_SEQUENCE > 300_000  # hanover's and hamburg's go to some 110,000


def test_half_as_far_is_four_times_as_large() -> None:
    """A walker ten metres away covers about four times the pixels of the same one twenty away."""
    covers = []
    for z in (10.0, 20.0):
        view = open_view(np.random.default_rng(3), 256, 512)
        paint_limbs(view, build_walker(np.random.default_rng(4), 1.75), Pose(0, z, 0), 24_000)
        covers.append(int((view.canvas.ids == 24_000).sum()))
    assert 4 == pytest.approx(covers[0] / covers[1], rel=0.1)


def test_near_objects_hide_far_ones() -> None:
    """Objects are painted from far to near, in whatever order they were placed."""
    painted: list[float] = []
    items = [(z, partial(painted.append, z)) for z in (20.0, 5.0, 80.0, 5.5)]
    paint_back_to_front(items)
    assert [80.0, 20.0, 5.5, 5.0] == painted


def test_progress_counts_every_frame(tmp_path: Path) -> None:
    """Progress is reported after each frame, with the total number of frames."""
    reports: list[tuple[int, int]] = []
    write(
        tmp_path / "i.zip", tmp_path / "l.zip", train=2, val=1, size=(32, 64), seed=0,
        progress=lambda done, total: reports.append((done, total)),
    )  # fmt: skip
    assert [(1, 3), (2, 3), (3, 3)] == reports


def test_interrupted_writing_leaves_no_files(tmp_path: Path) -> None:
    """After an interruption there is neither a partial zip nor a temporary file."""

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(
            tmp_path / "i.zip", tmp_path / "l.zip", train=2, val=0, size=(32, 64), seed=0,
            progress=stop,
        )  # fmt: skip
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize(("train", "val"), [(0, 0), (-1, 3)])
def test_empty_set_is_refused(tmp_path: Path, train: int, val: int) -> None:
    """Zero or negative numbers of frames are refused before anything is written."""
    with pytest.raises(ValueError, match=f"cannot draw {train} train and {val} val frames"):
        write(
            tmp_path / "i.zip", tmp_path / "l.zip", train=train, val=val, size=(32, 64), seed=0,
            progress=_ignore,
        )  # fmt: skip
