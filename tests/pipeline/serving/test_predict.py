from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.serving.load import TrainedModel, load_model
from pipeline.serving.predict import draw_overlay, find_images, predict
from segformer.cityscapes import CLASS_NAMES, LABELS
from segformer.inference.predictor import Predictor
from segformer.inference.settings import InferenceSettings
from segformer.weights import checkpoint

NOISE = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model(model_folder: Path) -> TrainedModel:
    """That model, loaded."""
    return load_model(str(model_folder))


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """A folder with pictures of several kinds and sizes, and one thing that is none."""
    (tmp_path / "frames/night").mkdir(parents=True)
    Image.fromarray(NOISE).save(tmp_path / "frames/000001.png")
    Image.fromarray(NOISE[:32, :48]).save(tmp_path / "frames/night/000001.JPG")
    (tmp_path / "frames/notes.txt").write_text("none")
    return tmp_path / "frames"


def test_a_folder_is_searched_to_its_bottom(frames: Path) -> None:
    """Pictures below a folder keep their place in it; other files are passed over."""
    assert ["000001", "night/000001"] == list(find_images([frames]))


def test_files_and_folders_together(frames: Path) -> None:
    """A file that is named is called by its name, wherever it lies."""
    Image.fromarray(NOISE).save(frames.parent / "street.png")
    found = find_images([frames, frames.parent / "street.png"])
    assert ["000001", "night/000001", "street"] == list(found)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing.png", "missing.png does not exist"),
        ("notes.txt", "notes.txt is no .png"),
        ("empty", "empty holds no .png"),
        ("drive.mp4", "drive.mp4 is a video: `ffmpeg -i "),
    ],
)
def test_what_is_no_picture(frames: Path, name: str, said: str) -> None:
    """It is told before a model is loaded, with what to do."""
    (frames / "empty").mkdir()
    (frames / "drive.mp4").write_bytes(b"a film")
    with pytest.raises(ValueError, match="predict: 1 problem ") as told:
        find_images([frames / name])
    assert said in str(told.value)


def test_two_of_one_name(frames: Path) -> None:
    """Two pictures that would be written as one file are both named."""
    twin = frames / "000001.jpeg"
    Image.fromarray(NOISE).save(twin)
    with pytest.raises(ValueError, match=r"000001.jpeg and .*000001.png would both be written"):
        find_images([frames])


def test_labels_and_overlays(frames: Path, model_folder: Path, model: TrainedModel) -> None:
    """Every picture gets the library's train ids at its own size, and an overlay of that size."""
    out = frames.parent / "out"
    steps: list[tuple[int, int]] = []
    pictures = find_images([frames])
    assert [] == predict(model, pictures, out, lambda done, total: steps.append((done, total)))
    assert [(1, 2), (2, 2)] == steps
    expected = Predictor(
        checkpoint.load(model_folder), InferenceSettings((64, 96))
    ).predict_classes(NOISE)
    with Image.open(out / "labels/000001.png") as labels:
        assert "L" == labels.mode
        np.testing.assert_array_equal(expected, np.array(labels))
    with Image.open(out / "overlay/night/000001.png") as drawn:
        assert (48, 32) == drawn.size
    kept = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.*"))
    assert [
        f"{kind}/{name}.png"
        for kind in ("labels", "overlay")
        for name in ("000001", "night/000001")
    ] == kept


def test_a_damaged_picture_stops_no_other(frames: Path, model: TrainedModel) -> None:
    """It is named in what comes back, and the rest is there."""
    (frames / "000000.png").write_bytes(b"no picture")
    out = frames.parent / "out"
    [problem] = predict(model, find_images([frames]), out, lambda *_: None)
    assert problem.startswith(f"{frames / '000000.png'}: not a PNG or JPEG")
    assert (out / "labels/000001.png").exists()
    assert not (out / "labels/000000.png").exists()


def test_the_overlay_has_the_official_colours() -> None:
    """On a black photograph the overlay is the class's colour, dimmed alike for all classes."""
    road, sky = (CLASS_NAMES.index(name) for name in ("road", "sky"))
    classes = np.array([[road, sky]], dtype=np.uint8)
    drawn = draw_overlay(np.zeros((1, 2, 3), dtype=np.uint8), classes)
    colors = {label.name: np.array(label.color) for label in LABELS}
    for column, name in enumerate(("road", "sky")):
        ratio = drawn[0, column] / colors[name]
        np.testing.assert_allclose(ratio, ratio[0], atol=0.02)


def test_a_size_can_be_chosen(model_folder: Path) -> None:
    """`size` is what the network sees, whatever it was trained with."""
    chosen = load_model(str(model_folder), (32, 64)).predictor.predict_classes(NOISE)
    expected = Predictor(
        checkpoint.load(model_folder), InferenceSettings((32, 64))
    ).predict_classes(NOISE)
    np.testing.assert_array_equal(expected, chosen)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """It is named, with the other ways to name a model."""
    with pytest.raises(ValueError, match=r"nope is not a folder: name champion, .*models:/"):
        load_model("nope")
