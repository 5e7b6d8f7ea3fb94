"""pipeline.explain.drawing and .film: pictures, and films of one color scale."""

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipeline.explain.drawing import DrawingOptions, Painter, choose_scale, draw_pictures
from pipeline.explain.explainer import Explanation
from pipeline.explain.film import draw_film, sample_frames
from pipeline.explain.maps import HeadMaps
from pipeline.explain.scale import ColorScale, fit_scale
from pipeline.explain.wall import WallStyle
from pipeline.video.frames import FrameSource
from pipeline.video.source import open_sources
from segformer.cityscapes import palette
from tests.pipeline.conftest import save_png
from tests.pipeline.video.films import read_film

OPTIONS = DrawingOptions(WallStyle(width=400))
NUM_FRAMES = 6


class ByHand:
    """Explains a picture by its first pixel: attention 2 at the left, at the right its value / 10.

    With a value of 0 the query does not occur.
    """

    title, subtitle, names = "Title", "Subtitle", ("head 0",)

    def explain(self, photograph: NDArray[np.uint8]) -> Explanation:
        """See `Explainer`."""
        value = float(photograph[0, 0, 0]) / 10
        classes = np.full((4, 8), 13, dtype=np.uint8)
        if not value:
            return Explanation(None, None, classes, "no car here")
        return Explanation(HeadMaps(np.array([[[2, value]]], dtype=np.float32)), None, classes)

    def fit_scale(self, values: NDArray[np.float32]) -> ColorScale:
        """See `Explainer`."""
        return fit_scale(values)

    def make_scale(self, limit: float) -> ColorScale:
        """See `Explainer`."""
        return ColorScale(limit)


def make_picture(value: int) -> NDArray[np.uint8]:
    """Middle gray, with the value in the first pixel."""
    picture = np.full((40, 80, 3), 128, dtype=np.uint8)
    picture[0, 0] = value
    return picture


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A zip of pictures whose maps grow at the right from 1 to 16."""
    path = tmp_path / "drive.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for index, value in enumerate(np.linspace(10, 160, NUM_FRAMES).astype(int)):
            save_png(tmp_path / "one.png", make_picture(value))
            archive.write(tmp_path / "one.png", f"drive/{index}.png")
    return path


def map_halves(frame: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(2, 3) mean colors of the left and the right of the map's panel."""
    height = Painter(ByHand(), (40, 80), ColorScale(4), OPTIONS).wall.panel_size[0]
    middle = frame[frame.shape[0] // 2 - height // 4 :][: height // 4]
    return np.array([middle[:, 220:280].mean((0, 1)), middle[:, 320:380].mean((0, 1))])


def test_one_color_scale_for_the_whole_film(pictures: Path, tmp_path: Path) -> None:
    """A value that stays has the same color in every frame, though the largest value grows."""
    (source,) = open_sources(pictures)
    film = draw_film(ByHand(), source, tmp_path / "out", OPTIONS)
    assert tmp_path / "out/drive.mp4" == film.path
    assert 16 == film.limit
    halves = np.array([map_halves(frame) for frame in read_film(film.path)[1]])
    assert NUM_FRAMES == len(halves)
    np.testing.assert_allclose(halves[:1, 0].repeat(NUM_FRAMES, axis=0), halves[:, 0], atol=4)
    assert (np.diff(halves[:, 1].sum(1)) > 5).all()


def test_given_color_scale(pictures: Path, tmp_path: Path) -> None:
    """With a limit, the film is not measured first."""
    (source,) = open_sources(pictures, every=2)
    film = draw_film(ByHand(), source, tmp_path, replace(OPTIONS, limit=3.0), codec="webp")
    assert 3 == film.limit
    with Image.open(tmp_path / "drive.webp") as written:
        assert NUM_FRAMES // 2 == written.n_frames  # type: ignore[attr-defined]


def test_frames_without_the_query(tmp_path: Path) -> None:
    """A film goes on where the class does not occur: the photograph with a note."""
    for index, value in enumerate((20, 0, 20)):
        save_png(tmp_path / f"drive/{index}.png", make_picture(value))
    (source,) = open_sources(tmp_path / "drive")
    film = draw_film(ByHand(), source, tmp_path / "out", OPTIONS)
    first, second, third = (map_halves(frame) for frame in read_film(film.path)[1])
    np.testing.assert_allclose(first, third, atol=4)
    assert np.ptp(first, axis=1).min() > 30  # orange
    assert np.ptp(second, axis=1).max() < 8  # gray, with white letters


def test_interrupted_film_can_be_played(pictures: Path, tmp_path: Path) -> None:
    """Ctrl-C leaves the frames drawn until then."""
    (source,) = open_sources(pictures)

    def interrupt(done: int, total: int, rate: str) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw_film(ByHand(), source, tmp_path, OPTIONS, progress=interrupt)
    assert 3 == len(read_film(tmp_path / "drive.mp4")[1])


@dataclass
class Numbers:
    """A film of numbers."""

    length: int

    def __iter__(self) -> Iterator[int]:
        """Frame after frame."""
        return iter(range(self.length))


@pytest.mark.parametrize(
    ("length", "expected"),
    [(1, [0]), (6, [*range(6)]), (16, [*range(0, 16, 2)]), (1000, [*range(0, 1000, 128)])],
)
def test_sampled_frames_are_spread(length: int, expected: list[int]) -> None:
    """Frames from beginning to end at equal distances, in constant memory."""
    film: FrameSource = Numbers(length)  # type: ignore[assignment]
    assert expected == sample_frames(film, 8)


def test_pictures(tmp_path: Path) -> None:
    """Each picture gets a PNG; one without the query, or damaged, is named and skipped."""
    for name, value in (("a", 40), ("b", 0)):
        save_png(tmp_path / f"{name}.png", make_picture(value))
    (tmp_path / "c.png").write_bytes(b"no picture")
    images = {name: tmp_path / f"{name}.png" for name in "abc"}
    steps: list[int] = []
    out = tmp_path / "out"
    problems = draw_pictures(ByHand(), images, out, OPTIONS, lambda done, _: steps.append(done))
    assert [1, 2, 3] == steps
    assert [f"{tmp_path / 'b.png'}: no car here: nothing is drawn"] == problems[:1]
    assert "c.png: not a PNG or JPEG" in problems[1]
    assert ["a.png"] == [path.name for path in out.iterdir()]
    with Image.open(out / "a.png") as drawn:
        halves = map_halves(np.asarray(drawn))
    assert (halves[1] > halves[0]).all()  # 4 is at the end of the scale: pale yellow


def test_prediction_beside_the_map() -> None:
    """Photograph, prediction in the official colors, and the map, in one line."""
    options = replace(OPTIONS, has_prediction=True)
    picture = make_picture(20)
    painter = Painter(ByHand(), (40, 80), ColorScale(4), options)
    drawn = painter.draw(picture, ByHand().explain(picture))
    height, width = painter.wall.panel_size
    row = drawn[drawn.shape[0] // 2]
    centers = [row[(2 * index + 1) * drawn.shape[1] // 6].astype(int) for index in range(3)]
    np.testing.assert_array_equal(128, centers[0])
    np.testing.assert_allclose(0.45 * 128 + 0.55 * palette()[13], centers[1], atol=1)
    assert 3 == round(drawn.shape[1] / width)
    assert height < drawn.shape[0] < 3 * height


def test_scale_without_values() -> None:
    """Where the query does not occur in any sampled frame, there is a scale all the same."""
    empty = Explanation(None, None, None, "no car here")
    assert 4 == choose_scale(ByHand(), [empty], None).limit
