from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.serving.load import load_model
from pipeline.serving.predict import PictureOptions, find_inputs, predict
from pipeline.video.drawing import OverlayStyle, draw_overlay
from segformer.cityscapes import CLASS_NAMES, LABELS
from segformer.inference.predictor import Predictor
from segformer.inference.settings import InferenceSettings
from segformer.inference.trained_model import TrainedModel
from segformer.weights import checkpoint

NOISE = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model(model_folder: Path) -> TrainedModel:
    """The model of `model_folder`, loaded."""
    return load_model(str(model_folder))


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """A folder with images of several types and sizes, and a text file."""
    (tmp_path / "frames/night").mkdir(parents=True)
    Image.fromarray(NOISE).save(tmp_path / "frames/000001.png")
    Image.fromarray(NOISE[:32, :48]).save(tmp_path / "frames/night/000001.JPG")
    (tmp_path / "frames/notes.txt").write_text("no image")
    return tmp_path / "frames"


def test_folder_is_searched_recursively(frames: Path) -> None:
    """Pictures and films below a folder keep their relative path; other files are skipped."""
    (frames / "night/drive.MP4").write_bytes(b"a film")
    inputs = find_inputs([frames])
    assert ["000001", "night/000001"] == list(inputs.images)
    assert {"night/drive": frames / "night/drive.MP4"} == inputs.films


def test_files_and_folders_together(frames: Path) -> None:
    """The output name of a file that is named is its file name, wherever it is."""
    Image.fromarray(NOISE).save(frames.parent / "street.png")
    (frames.parent / "drive.zip").write_bytes(b"a zip")
    inputs = find_inputs([frames, frames.parent / "street.png", frames.parent / "drive.zip"])
    assert ["000001", "night/000001", "street"] == list(inputs.images)
    assert ["drive"] == list(inputs.films)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.png", "missing.png does not exist"),
        ("empty", "empty contains no picture (.png, .jpg, .jpeg) or film"),
    ],
)
def test_path_without_pictures(frames: Path, name: str, message: str) -> None:
    """The error names the path, before a model is loaded."""
    (frames / "empty").mkdir()
    with pytest.raises(ValueError, match="predict: 1 problem with the paths") as error:
        find_inputs([frames / name])
    assert message in str(error.value)


def test_images_with_one_output_name(frames: Path) -> None:
    """Two images that would be written as one file are both named."""
    Image.fromarray(NOISE).save(frames / "000001.jpeg")
    with pytest.raises(ValueError, match=r"000001.jpeg and .*000001.png would both be written"):
        find_inputs([frames])


def test_labels_and_overlays(frames: Path, model_folder: Path, model: TrainedModel) -> None:
    """Each image gets the library's train ids at its own size, and an overlay of that size."""
    out = frames.parent / "out"
    steps: list[tuple[int, int]] = []
    images = find_inputs([frames]).images
    assert [] == predict(model, images, out, lambda done, total: steps.append((done, total)))
    assert [(1, 2), (2, 2)] == steps
    expected = Predictor(
        checkpoint.load(model_folder), InferenceSettings((64, 96))
    ).predict_classes(NOISE)
    with Image.open(out / "labels/000001.png") as labels:
        assert "L" == labels.mode
        np.testing.assert_array_equal(expected, np.array(labels))
    with Image.open(out / "overlay/night/000001.png") as overlay:
        assert (48, 32) == overlay.size
    written = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.*"))
    assert [
        f"{kind}/{name}.png"
        for kind in ("labels", "overlay")
        for name in ("000001", "night/000001")
    ] == written


def test_damaged_image_is_skipped(frames: Path, model: TrainedModel) -> None:
    """A damaged image is named in the result, and the other images are written."""
    (frames / "000000.png").write_bytes(b"no image")
    out = frames.parent / "out"
    [problem] = predict(model, find_inputs([frames]).images, out, lambda *_: None)
    assert problem.startswith(f"{frames / '000000.png'}: not a PNG or JPEG")
    assert (out / "labels/000001.png").exists()
    assert not (out / "labels/000000.png").exists()


def test_overlay_has_the_official_colors() -> None:
    """On a black photograph the overlay is the class color, by one factor for all classes."""
    road, sky = (CLASS_NAMES.index(name) for name in ("road", "sky"))
    classes = np.array([[road, sky]], dtype=np.uint8)
    overlay = draw_overlay(np.zeros((1, 2, 3), dtype=np.uint8), classes)
    colors = {label.name: np.array(label.color) for label in LABELS}
    for column, name in enumerate(("road", "sky")):
        ratio = overlay[0, column] / colors[name]
        np.testing.assert_allclose(ratio, ratio[0], atol=0.02)


def test_options_of_pictures(frames: Path, model: TrainedModel) -> None:
    """With options the overlay is drawn in their style, and labels are left out."""
    out = frames.parent / "out"
    style = OverlayStyle(alpha=0.0, legend=CLASS_NAMES)
    options = PictureOptions(style, has_labels=False)
    images = find_inputs([frames]).images
    assert [] == predict(model, images, out, lambda *_: None, options)
    assert not (out / "labels").exists()
    with Image.open(out / "overlay/000001.png") as overlay:
        np.testing.assert_array_equal(NOISE, np.array(overlay)[:40])
        assert 40 + style.legend_rows(56) == overlay.height
