"""A drive is one street: everything fixed to it moves as the camera says, and nothing else."""

import hashlib
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy._core._multiarray_umath import (  # the only list of CPU features that can be disabled
    __cpu_dispatch__,
    __cpu_features__,
)
from scipy import ndimage

from pipeline.synthetic import SyntheticFrame, write_drive
from pipeline.synthetic.camera import Camera
from pipeline.synthetic.canvas import LABEL_ID, Canvas
from pipeline.synthetic.drive import Drive
from pipeline.synthetic.drive.frames import FRAME_RATE
from pipeline.synthetic.drive.objects import Moment, make_box, make_person, make_vehicle
from pipeline.synthetic.drive.streams import SPEED
from pipeline.synthetic.solids import Pose
from pipeline.synthetic.texture import stripe_cover
from pipeline.synthetic.view import View
from segformer.cityscapes import LABELS

SIZE = (64, 128)


@pytest.fixture(scope="module")
def drive() -> Drive:
    """One street."""
    return Drive(3)


@pytest.fixture(scope="module")
def frames(drive: Drive) -> list[SyntheticFrame]:
    """Four frames in a row."""
    return [drive.draw_frame(number, SIZE) for number in range(40, 44)]


def test_camera_moves_steadily(drive: Drive) -> None:
    """The camera is 8 m farther each second of 17 frames, and sways by under 6 % of the rows."""
    cameras = [drive.camera_at(number, SIZE) for number in range(0, 170, 17)]
    assert [8.0 * second for second in range(10)] == [camera.traveled for camera in cameras]
    assert len({camera.height for camera in cameras}) == len({c.focal for c in cameras}) == 1
    every = [drive.camera_at(number, SIZE) for number in range(170)]
    assert max(abs(camera.center - 64) for camera in every) < 0.06 * 64
    steps = [abs(b.horizon - a.horizon) for a, b in pairwise(every)]
    assert 0 < max(steps) < 0.004 * 64


def test_frame_does_not_depend_on_others(drive: Drive, frames: list[SyntheticFrame]) -> None:
    """A frame drawn alone, by another object, equals that drawn within the drive."""
    alone = Drive(3).draw_frame(42, SIZE)
    assert alone.image.tobytes() == frames[2].image.tobytes()
    assert alone.instance_ids.tobytes() == frames[2].instance_ids.tobytes()
    assert alone.image.tobytes() != Drive(4).draw_frame(42, SIZE).image.tobytes()


def test_labels_are_official_ids(frames: list[SyntheticFrame]) -> None:
    """Instance ids divided by 1000 are label ids, and only classes with instances have them."""
    known = {label.label_id for label in LABELS}
    with_instances = {label.label_id for label in LABELS if label.has_instances}
    for frame in frames:
        ids = frame.instance_ids.astype(int)
        assert np.array_equal(np.where(ids >= 1000, ids // 1000, ids), frame.label_ids)
        assert set(np.unique(frame.label_ids).tolist()) <= known
        assert set((ids[ids >= 1000] // 1000).tolist()) <= with_instances


def test_consecutive_frames_differ_little(frames: list[SyntheticFrame]) -> None:
    """Over 85 % of the labels stay from one frame to the next; two streets share far fewer."""
    same = [float((a.label_ids == b.label_ids).mean()) for a, b in pairwise(frames)]
    assert min(same) > 0.85
    other = Drive(4).draw_frame(40, SIZE)
    assert float((frames[0].label_ids == other.label_ids).mean()) < 0.75


def test_instances_keep_their_ids(drive: Drive) -> None:
    """Most instances of a frame have the same id in the next one, at nearly the same place."""
    size = (128, 256)
    first, second = (drive.draw_frame(number, size).instance_ids for number in (40, 41))
    middles = []
    for ids in (first, second):
        numbers = [i for i in np.unique(ids).tolist() if i >= 1000 and (ids == i).sum() > 20]
        middles.append({i: np.argwhere(ids == i).mean(axis=0) for i in numbers})
    common = middles[0].keys() & middles[1].keys()
    assert len(common) >= 0.8 * len(middles[0]) > 2
    assert max(float(np.abs(middles[0][i] - middles[1][i]).max()) for i in common) < 12


def _measure_moved(traveled: float, time: float, thing_z: float = 20.0) -> np.ndarray:
    """The middle (row, column) of a box at (3, 20) seen after a drive of `traveled` meters."""
    rows, columns = 200, 400
    camera = Camera(rows, columns, focal=440.0, horizon=84.0, center=200.0, height=1.25,
                    traveled=traveled)  # fmt: skip
    drive = Drive(0)
    view = replace(
        drive._open_view(0, (rows, columns)), camera=camera, canvas=Canvas(rows, columns)
    )
    box = make_box("static", Pose(3.0, thing_z, 0.0), (0.4, 0.4), 1.0, seed=1)
    box.paint(view, Moment(box.z - traveled, time))
    return np.argwhere(view.canvas.ids == LABEL_ID["static"])


@pytest.mark.parametrize("traveled", [0.0, 5.0, 12.0])
def test_standing_object_moves_as_projected(traveled: float) -> None:
    """The foot of a box lies in the row, and its side in the column, of the pinhole camera."""
    pixels = _measure_moved(traveled, traveled / SPEED)
    near, far = 20.0 - traveled - 0.4, 20.0 - traveled + 0.4
    assert 84 + (1.25 - 0.04) * 440 / near == pytest.approx(pixels[:, 0].max() + 0.5, abs=1)
    assert 200 + 2.6 * 440 / far == pytest.approx(pixels[:, 1].min() + 0.5, abs=1)
    assert 200 + 3.4 * 440 / near == pytest.approx(pixels[:, 1].max() + 0.5, abs=1)


def test_ground_is_fixed_to_the_street(drive: Drive) -> None:
    """The road's brightness at one place of the street is the same in two frames.

    Compared at the places of the street below the pixels of the first frame, by the geometry of
    the two cameras.
    """
    size = (256, 512)
    images, cameras = [], []
    for number in (40, 41):
        images.append(drive.draw_frame(number, size).image.astype(float).mean(axis=2))
        cameras.append(drive.camera_at(number, size))
    first, x, z = cameras[0].ground
    box = np.s_[185 - first : 225 - first, 240:330]
    place_x, place_z = x[box], np.broadcast_to(z[box[0]], x[box].shape)
    step = cameras[1].traveled - cameras[0].traveled
    assert SPEED / FRAME_RATE == pytest.approx(step)

    def correlate(moved: float) -> float:
        scale = cameras[1].focal / (place_z - moved)
        row = cameras[1].horizon + cameras[1].height * scale - 0.5
        column = cameras[1].center + place_x * scale - 0.5
        pictures = images[0][185:225, 240:330], ndimage.map_coordinates(images[1], [row, column])
        grains = [(picture - ndimage.uniform_filter(picture, 7)).ravel() for picture in pictures]
        return float(np.corrcoef(*grains)[0, 1])

    assert correlate(step) > 0.2
    assert max(correlate(share * step) for share in (0, 0.5, 1.5, 2)) < 0.1


def _paint(thing_z: float, time: float, x: float, speed: float) -> np.ndarray:
    drive = Drive(0)
    camera = Camera(300, 600, focal=660.0, horizon=126.0, center=300.0, height=1.25)
    view: View = replace(drive._open_view(0, (300, 600)), camera=camera)
    view = replace(view, rng=np.random.default_rng(5))
    person = make_person(Pose(x, thing_z, 0.0), speed=speed, number=7, seed=5)
    person.paint(view, Moment(thing_z, time))
    return view.canvas.ids == 24_007


def test_people_walk_and_others_stand_still() -> None:
    """A walker's legs move with time, and somebody who stands does not move at all."""
    assert not np.array_equal(_paint(8.0, 0.0, 1.0, 1.3), _paint(8.0, 0.2, 1.0, 1.3))
    assert np.array_equal(_paint(8.0, 0.0, 1.0, 0.0), _paint(8.0, 0.2, 1.0, 0.0))


def test_vehicles_look_the_same_every_time() -> None:
    """A car painted twice from one seed at one place has the same pixels."""
    car = make_vehicle("car", Pose(-3.0, 12.0, np.pi), number=3, seed=9)
    painted = []
    for _ in range(2):
        view = replace(Drive(0)._open_view(0, (128, 256)), rng=np.random.default_rng(car.seed))
        car.paint(view, Moment(12.0, 0.0))
        painted.append((view.canvas.color.tobytes(), set(np.unique(view.canvas.ids).tolist())))
    assert painted[0] == painted[1]
    assert 26_003 in painted[0][1]


def test_distant_things_appear_gradually() -> None:
    """No thing of a drive appears at once: with a little more sight few pixels change by much."""
    drive = Drive(2)
    before = drive.draw_frame(40, (128, 256)).image.astype(int)
    after = Drive(2)
    block = after._block
    after._block = lambda stream, number: replace(  # type: ignore[method-assign]
        block(stream, number),
        things=tuple(replace(t, sight=1.01 * t.sight) for t in block(stream, number).things),
    )
    change = np.abs(after.draw_frame(40, (128, 256)).image.astype(int) - before)
    assert 0 < change.max() < 30


def test_stripes_cover_their_share() -> None:
    """A pixel on a stripe is covered, one beside it is not, and one over many by their share."""
    place = np.array([0.2, 0.7, 0.2])
    pitch = np.array([0.01, 0.01, 50.0])
    np.testing.assert_allclose([1, 0, 0.4], stripe_cover(place, pitch, 0.4), atol=1e-3)


_PRINT_FRAME = """
import hashlib
from pipeline.synthetic.drive import Drive
frame = Drive(3).draw_frame(42, (64, 128))
print(hashlib.sha256(frame.image.tobytes() + frame.instance_ids.tobytes()).hexdigest())
"""


def test_every_processor_draws_the_same(frames: list[SyntheticFrame]) -> None:
    """Without modern vector instructions a frame has the same pixels and labels."""
    features = [name for name in __cpu_dispatch__ if __cpu_features__[name]]
    environment = os.environ | {
        "NPY_DISABLE_CPU_FEATURES": " ".join(features),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _PRINT_FRAME], env=environment, check=True,
        capture_output=True, text=True,
    )  # fmt: skip
    pixels = frames[2].image.tobytes() + frames[2].instance_ids.tobytes()
    assert hashlib.sha256(pixels).hexdigest() == done.stdout.strip()


def _write(folder: Path, frames: int, processes: int = 1) -> tuple[Path, Path]:
    paths = folder / "images.zip", folder / "labels.zip"
    write_drive(*paths, frames=frames, size=(32, 64), seed=1, processes=processes,
                progress=lambda done, total: None)  # fmt: skip
    return paths


def test_longer_drive_begins_with_the_shorter_one(tmp_path: Path) -> None:
    """The frames of a shorter drive are the first ones of a longer one, in any processes."""
    long, short = _write(tmp_path / "long", 3, processes=2), _write(tmp_path / "short", 2)
    for longer, shorter in zip(long, short, strict=True):
        with zipfile.ZipFile(longer) as archive, zipfile.ZipFile(shorter) as first:
            names = first.namelist()
            assert names == archive.namelist()[: len(names)]
            assert [] == [name for name in names if archive.read(name) != first.read(name)]


def test_names_are_those_of_the_demo_video(tmp_path: Path) -> None:
    """Frames lie in leftImg8bit/demoVideo/SEQUENCE and count from 1; labels have three kinds."""
    images, labels = _write(tmp_path, 2)
    with zipfile.ZipFile(images) as archive:
        names = archive.namelist()
    with zipfile.ZipFile(labels) as archive:
        label_names = archive.namelist()
    stems = [f"demoVideo/drive_00/drive_00_000000_{number:06}" for number in (1, 2)]
    assert [f"leftImg8bit/{stem}_leftImg8bit.png" for stem in stems] == names
    kinds = ("color", "instanceIds", "labelIds")
    assert [f"gtFine/{stem}_gtFine_{kind}.png" for stem in stems for kind in kinds] == label_names


def test_empty_drive_is_refused(tmp_path: Path) -> None:
    """A drive without frames is refused before anything is written."""
    with pytest.raises(ValueError, match="cannot draw a drive of 0 frames; ask for 1 or more"):
        _write(tmp_path, 0)
    assert [] == list(tmp_path.iterdir())
