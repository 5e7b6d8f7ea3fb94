import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipeline.dataset.archive import IMAGE, LABEL_IDS, member_name
from pipeline.serving.film import FilmOptions, FilmScores, open_films, predict_film
from pipeline.serving.film_truth import find_truth
from pipeline.serving.load import load_model
from pipeline.video.drawing import OverlayStyle
from pipeline.video.source import open_sources
from segformer.cityscapes import CLASS_NAMES, LABELS, NUM_CLASSES
from segformer.images import encode_png
from segformer.inference.trained_model import TrainedModel
from tests.pipeline.video.films import VFR_TIMES_MS, read_film, write_film

ROAD, SKY = CLASS_NAMES.index("road"), CLASS_NAMES.index("sky")


@pytest.fixture(scope="module")
def model(model_folder: Path) -> TrainedModel:
    """The model of `model_folder`, loaded."""
    return load_model(str(model_folder))


@dataclass
class Threshold:
    """A predictor by hand: dark pixels are road, the others sky."""

    num_classes: int = NUM_CLASSES

    def predict_classes(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(h, w, 3) uint8 -> (h, w) uint8 train ids."""
        return np.where(image[..., 0] < 128, ROAD, SKY).astype(np.uint8)


def trained(predictor: Any, classes: tuple[str, ...] = CLASS_NAMES) -> TrainedModel:
    """A predictor by hand as a model."""
    return TrainedModel("by hand", predictor, list(classes))


def noise(number: int, rows: int = 48, columns: int = 64) -> list[NDArray[np.uint8]]:
    """Random pictures."""
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (rows, columns, 3), dtype=np.uint8) for _ in range(number)]


def write_demo(
    folder: Path, images: list[NDArray[np.uint8]], label_ids: list[NDArray[np.uint8]]
) -> Path:
    """Write leftImg8bit_demoVideo.zip, and gtFine_demoVideo.zip beside it; return the first."""
    for kind, pictures in ((IMAGE, images), (LABEL_IDS, label_ids)):
        with zipfile.ZipFile(folder / f"{kind.split('_')[0]}_demoVideo.zip", "w") as archive:
            for k, pixels in enumerate(pictures):
                name = member_name(f"demoVideo/drive_00/drive_00_000000_{k:06}", kind)
                archive.writestr(name, encode_png(Image.fromarray(pixels)))
    return folder / "leftImg8bit_demoVideo.zip"


def test_labels_are_the_predictions(tmp_path: Path, model: TrainedModel) -> None:
    """The film of labels holds, at each frame's time, exactly what the model predicts for it."""
    [source] = open_sources(write_film(tmp_path / "drive.mp4", noise(8), VFR_TIMES_MS))
    result = predict_film(model, source, tmp_path / "out", FilmOptions(has_labels=True))
    assert tmp_path / "out/overlay/drive.mp4" == result.path
    with av.open(str(tmp_path / "out/labels/drive.mkv")) as container:
        frames = [(f.time, f.to_ndarray(format="gray")) for f in container.decode(video=0)]
    assert list(VFR_TIMES_MS) == [round(1000 * time) for time, _ in frames]
    for frame, (_, labels) in zip(source, frames, strict=True):
        np.testing.assert_array_equal(model.predictor.predict_classes(frame.image), labels)
    assert ([], []) == (result.problems, result.notes)


def test_overlay_film(tmp_path: Path) -> None:
    """The film of overlays has the source's times, and the drawing of each frame."""
    images = [np.full((48, 64, 3), 60, dtype=np.uint8)] * 8
    [source] = open_sources(write_film(tmp_path / "drive.mp4", images, VFR_TIMES_MS))
    style = OverlayStyle(alpha=1.0, legend=CLASS_NAMES)
    result = predict_film(trained(Threshold()), source, tmp_path, FilmOptions(style))
    times, frames = read_film(result.path)
    assert list(VFR_TIMES_MS) == [round(1000 * time) for time in times]
    assert 48 + style.legend_rows(64) == frames[0].shape[0]
    np.testing.assert_allclose((128, 64, 128), frames[4][:40].mean((0, 1)), atol=8)


def test_steadiness() -> None:
    """The share of changed pixels is the mean over all pairs of neighboring frames."""
    scores = FilmScores()
    assert scores.change_share is None
    for changed in (0, 3, 4):  # 3 pixels change, then 1
        classes = np.zeros((4, 5), dtype=np.uint8)
        classes.flat[:changed] = 1
        scores.add(classes, None)
    assert pytest.approx((3 + 1) / 2 / 20) == scores.change_share
    assert scores.miou is None


def test_miou_with_labels_beside(tmp_path: Path) -> None:
    """Labels beside the zip give the mIoU over all frames together; frames without are skipped."""
    road_id, sky_id = (label.label_id for label in LABELS if label.name in ("road", "sky"))
    dark_left = np.full((32, 40, 3), 200, dtype=np.uint8)
    dark_left[:, :20] = 50
    true_ids = np.full((32, 40), sky_id, dtype=np.uint8)
    true_ids[:, :10] = road_id
    true_ids[:, 30:] = 0  # void
    demo = write_demo(tmp_path, [dark_left] * 3, [true_ids] * 2)
    [source] = open_sources(demo)
    result = predict_film(trained(Threshold()), source, tmp_path / "out", FilmOptions())
    # Of 30 columns: road hits 10 of 20 predicted, sky 10 of 20 true ones.
    assert pytest.approx(0.5) == result.scores.miou
    assert (3, 2) == (result.scores.num_frames, result.scores.num_labeled)
    assert "0.0% of the pixels change class" in result.describe()
    assert "mIoU 50.0% over 2 labeled frames" in result.describe()


def test_labels_of_a_drawn_drive_are_found(tmp_path: Path) -> None:
    """`segformer drive --out street.zip` writes street-labels.zip beside it."""
    assert find_truth(tmp_path / "street.zip") is None
    (tmp_path / "street-labels.zip").touch()
    assert tmp_path / "street-labels.zip" == find_truth(tmp_path / "street.zip")
    assert find_truth(tmp_path / "leftImg8bit_street.zip") is None


def test_truth_that_does_not_fit(tmp_path: Path) -> None:
    """Truth of other frames, for a film, or for other classes is refused in a sentence."""
    demo = write_demo(tmp_path, noise(1), [])
    empty = tmp_path / "gtFine_demoVideo.zip"
    options = FilmOptions(truth=empty)
    with pytest.raises(ValueError, match=r"--truth .*demoVideo.zip: no labels of "):
        predict_film(trained(Threshold()), open_sources(demo)[0], tmp_path, options)
    film = write_film(tmp_path / "a.mp4", noise(1))
    with pytest.raises(ValueError, match=r"--truth .* is a film; give its frames as a zip"):
        predict_film(trained(Threshold()), open_sources(film)[0], tmp_path, options)
    with pytest.raises(ValueError, match=r"by hand predicts other classes than the 19"):
        predict_film(trained(Threshold(), ("cat", "dog")), open_sources(demo)[0], tmp_path, options)
    assert not (tmp_path / "overlay").exists()


def test_damaged_film(tmp_path: Path) -> None:
    """A film that was cut off gives a film of the frames before, and one problem."""
    path = write_film(tmp_path / "a.mkv", noise(30))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    [source] = open_sources(path)
    result = predict_film(trained(Threshold()), source, tmp_path / "out", FilmOptions())
    assert 5 < len(read_film(result.path)[0]) == result.scores.num_frames < 30
    [problem] = result.problems
    assert "a.mkv is damaged or cut off at" in problem


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("20 x 20 is too small"), "too small"),
        (MemoryError(), "a.mp4: not enough memory for 48 x 64 pixels; choose a smaller input"),
        (RuntimeError("CUDA out of memory"), "a.mp4: not enough memory for 48 x 64 pixels"),
    ],
)
def test_frames_the_network_cannot_take(tmp_path: Path, error: Exception, message: str) -> None:
    """A frame too small for the network or too large for the memory: one sentence, no file."""

    class Failing(Threshold):
        def predict_classes(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
            super().predict_classes(image)
            raise error

    [source] = open_sources(write_film(tmp_path / "a.mp4", noise(3)))
    with pytest.raises(ValueError, match=message):
        predict_film(trained(Failing()), source, tmp_path / "out", FilmOptions(has_labels=True))
    assert [] == [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def test_film_smaller_than_the_network_takes(tmp_path: Path, model_folder: Path) -> None:
    """A film below the network's smallest side ends in its sentence."""
    model = load_model(str(model_folder))
    settings = replace(model.predictor.settings, size=None)
    model.predictor.settings = settings
    [source] = open_sources(write_film(tmp_path / "a.mp4", noise(2, 20, 40)))
    with pytest.raises(ValueError, match="29"):
        predict_film(model, source, tmp_path / "out", FilmOptions())


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_interrupted(tmp_path: Path, stop: type[BaseException]) -> None:
    """Ctrl-C and SIGTERM leave films of overlays and labels with the frames that were done."""

    class Stopping(Threshold):
        num_frames = 0

        def predict_classes(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
            self.num_frames += 1
            if self.num_frames == 6:
                raise stop
            return super().predict_classes(image)

    [source] = open_sources(write_film(tmp_path / "a.mp4", noise(20), audio="aac"))
    with pytest.raises(stop):
        predict_film(trained(Stopping()), source, tmp_path / "out", FilmOptions(has_labels=True))
    for name in ("overlay/a.mp4", "labels/a.mkv"):
        assert 5 == len(read_film(tmp_path / "out" / name)[0])
    with av.open(str(tmp_path / "out/overlay/a.mp4")) as container:
        assert container.duration / 1e6 < 0.3  # the sound ends with the frames


def test_open_films(tmp_path: Path) -> None:
    """Films and sequences are named after their files; what fails is a line, the rest is opened."""
    write_film(tmp_path / "a.mp4", noise(2))
    (tmp_path / "b.mp4").write_text("no film")
    write_demo(tmp_path, noise(2), [])
    names = {"day/a": "a.mp4", "day/b": "b.mp4", "zip": "leftImg8bit_demoVideo.zip"}
    paths = {name: tmp_path / file for name, file in names.items()}
    sources, [problem] = open_films(paths, end_s=Fraction(1, 17))
    assert ["day/a", "drive_00"] == [source.name for source in sources]
    assert f"{tmp_path / 'b.mp4'}: not a film" in problem
    assert 1 == sources[1].num_frames
    paths["also"] = paths["zip"]
    _, problems = open_films(paths)
    assert "would both be written as drive_00" in problems[1]


def test_progress_counts_frames(tmp_path: Path) -> None:
    """Progress is reported per frame, with the total and the frames per second."""
    steps: list[tuple[int, int, str]] = []
    report: Callable[[int, int, str], None] = lambda *step: steps.append(step)  # noqa: E731
    [source] = open_sources(write_film(tmp_path / "a.mp4", noise(4)))
    predict_film(trained(Threshold()), source, tmp_path / "out", FilmOptions(), report)
    assert [(k, 4) for k in range(1, 5)] == [step[:2] for step in steps]
    assert steps[-1][2].endswith(" frames/s")
