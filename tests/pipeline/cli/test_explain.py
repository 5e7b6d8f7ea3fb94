"""The command explain: what is drawn from the command line, and what is refused."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from pipeline.cli.app import main
from segformer.vit.model import VisionTransformer
from segformer.vit.variants import VARIANTS, VitVariant
from segformer.vit.weights import FORMATS
from tests.pipeline.conftest import save_png
from tests.pipeline.video.films import make_images, read_film, write_film

Command = Callable[..., tuple[int, str]]

TINY = VitVariant("tiny", patch=16, width=24, depth=2, heads=3)


@pytest.fixture
def run_explain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """A function that runs `segformer explain` in a folder with a picture and a film.

    It returns the exit code and all output.
    """
    save_png(tmp_path / "street.png", make_images(3, 64, 96)[1])
    write_film(tmp_path / "drive.mp4", make_images(4, 64, 96))
    monkeypatch.chdir(tmp_path)

    def run_explain(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["segformer", "explain", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out + captured.err

    return run_explain


def test_picture_and_film(run_explain: Command, model_folder: Path) -> None:
    """Both are drawn into `attention`, as wide as requested."""
    options = ["--query", "pixel:10,20", "--stage", "3", "--width", "600"]
    code, output = run_explain("street.png", "drive.mp4", "--model", model_folder, *options)
    assert 0 == code, output
    assert "drew 1 of 1 picture into attention" in output
    assert "attention/drive.mp4: 4 frames at " in output
    with Image.open("attention/street.png") as wall:
        assert 600 == wall.width
    frames = read_film(Path("attention/drive.mp4"))[1]
    assert [600] * 4 == [frame.shape[1] for frame in frames]


def test_film_beside_its_prediction(run_explain: Command, model_folder: Path) -> None:
    """An animated picture of three panels, for pages."""
    options = ["--beside", "--codec", "webp", "--every", "2", "--width", "300", "--max", "8"]
    code, output = run_explain("drive.mp4", "--model", model_folder, *options, "--out", "out")
    assert 0 == code, output
    assert "out/drive.webp: 2 frames" in output
    assert "color scale to 8" in output
    with Image.open("out/drive.webp") as film:
        assert 300 == film.width
        assert film.width > 1.5 * film.height


@pytest.fixture
def vit_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file of weights of a tiny plain ViT, in the folder of `run_explain`."""
    monkeypatch.setitem(VARIANTS, "tiny", TINY)
    torch.manual_seed(0)
    weights = VisionTransformer(TINY).state_dict()
    names = {ours: theirs[0] for ours, theirs in FORMATS[0].find_sources(TINY.depth).items()}
    torch.save({names[name]: tensor for name, tensor in weights.items()}, tmp_path / "vit.pth")
    return "vit.pth"


def test_plain_vit(run_explain: Command, vit_file: str) -> None:
    """A file of weights is a plain ViT: its CLS token, and no other option of attention."""
    code, output = run_explain("street.png", "--model", vit_file, "--width", 400)
    assert 0 == code, output
    assert Path("attention/street.png").is_file()
    refused = ["--query", "mean", "--stage", 1, "--method", "grad-cam", "--beside"]
    code, output = run_explain("street.png", "--model", "vit.pth", *refused)
    assert 1 == code
    assert "error: --query, --stage, --method, --beside: not for vit.pth, a plain ViT" in output


def test_heads_of_a_plain_vit_are_measured(
    run_explain: Command, vit_file: str, model_folder: Path
) -> None:
    """With a model's predictions the lift per class is written beside the drawings."""
    options = ["--width", 400, "--classes-from", model_folder]
    code, output = run_explain("street.png", "drive.mp4", "--model", vit_file, *options)
    assert 0 == code, output
    assert "(5 frames; attention/portraits)" in output
    assert {"heads.csv", "lift.csv", "lift.png"} == {
        path.name for path in Path("attention/portraits").iterdir()
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--truth", "labels.zip"], "labels are found for zips of pictures only"),
        (["--truth", "labels.zip", "--classes-from", "ce-0"], "give one of them"),
        (["--classes-from", "missing"], "missing is not a folder"),
    ],
)
def test_classes_that_are_missing(
    run_explain: Command, vit_file: str, options: list[str], message: str
) -> None:
    """Labels for a picture that has none, both sources, and no such model are refused."""
    code, output = run_explain("street.png", "--model", vit_file, *options)
    assert 1 == code
    assert message in output
    assert not Path("attention").exists()


def test_heads_of_a_trained_model_are_measured_by_the_stage(
    run_explain: Command, model_folder: Path
) -> None:
    """`--classes-from` is for plain ViTs."""
    options = ["--model", model_folder, "--classes-from", model_folder]
    code, output = run_explain("street.png", *options)
    assert 1 == code
    assert "only for plain ViTs; the stage `explain` measures" in output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--query", "car"], "--query 'car' is not a query: give pixel:ROW,COLUMN, class:NAME or"),
        (["--query", "pixel:64,0"], "street.png: there is no pixel 64,0 in 64 rows"),
        (["--query", "class:cra"], "did you mean car?; choose from road"),
        (["--stage", 4], "--stage 4: choose from 0, the finest, to 3"),
        (["--block", 2], "--block 2: stage 2 of b0 has blocks 0 to 1"),
        (["--head", 5], "--head 5: stage 2 has heads 0 to 4"),
        (["--head", "first"], "--head first: give all, mean, or the number of a head, from 0"),
        (["--head", "all", "--beside"], "--beside draws one map: give --head mean or the number"),
        (["--max", 1], "the color scale ends at 1; choose a number above 1"),
        (["--direction", "looked-at"], "give a pixel or a class, or --direction looks-at"),
        (["--method", "grad-cam"], "class activation explains the score of a class: give --query"),
        (
            ["--method", "grad-cam", "--query", "class:car", "--head", 0],
            "--head: only for --method attention",
        ),
        (["--size", 16, 16], "--size 16 16: choose at least 29 rows and columns"),
    ],
)
def test_options_that_are_refused(
    run_explain: Command, model_folder: Path, options: list[object], message: str
) -> None:
    """One message says what is allowed, and nothing is written."""
    code, output = run_explain("street.png", "--model", model_folder, *options)
    assert 1 == code
    assert message in output
    assert "Traceback" not in output
    assert not Path("attention").exists()


def test_inputs_that_are_missing(run_explain: Command) -> None:
    """The paths are checked before a model is loaded."""
    code, output = run_explain("missing.png", "--model", "no model")
    assert 1 == code
    assert "error: explain: 1 problem with the paths of the pictures and films\n" in output
    assert "missing.png does not exist" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a picture, film, zip or folder to draw attention on"),
        (["--models", "data", "--out", "out"], "missing --evaluations, --images, --labels"),
        (["street.png", "--models", "data"], "--models: only for the stage, which takes no INPUT"),
    ],
)
def test_drawing_or_the_stage(run_explain: Command, arguments: list[str], message: str) -> None:
    """Without inputs it is the stage, which needs all its paths; with inputs it takes none."""
    code, output = run_explain(*arguments)
    assert 2 == code
    assert message in " ".join(output.replace("│", " ").split())
