import copy
import fnmatch
import importlib
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import cityscapesscripts.helpers.labels as official
import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from pipeline.cli.app import app
from pipeline.dataset.archive import IMAGE, member_name
from pipeline.evaluation.predictions import encode_label_ids, prediction_file_name
from pipeline.official.submission import write_submission
from pipeline.official.submission_check import (
    TEST_FRAMES_PER_CITY,
    SubmissionIssues,
    SubmissionReport,
    check_submission,
    group_by_frame,
)
from segformer import SegFormer, save
from segformer.images import encode_png
from segformer.inference.predictor import Predictor
from segformer.inference.settings import InferenceSettings
from segformer.weights import checkpoint
from tests.pipeline.conftest import save_png

KEYS = [f"test/berlin/berlin_{i:06}_000019" for i in range(3)]
STEMS = [key.rpartition("/")[2] for key in KEYS]
SIZE = (24, 48)


def ignore_progress(done: int, total: int) -> None:
    """Ignore progress."""


def png(value: int, size: tuple[int, int] = SIZE) -> bytes:
    """A grayscale PNG of one value."""
    return encode_png(Image.new("L", (size[1], size[0]), value))


def valid_files() -> dict[str, bytes]:
    """The files of a valid submission for KEYS: road everywhere."""
    return {prediction_file_name(key): png(7) for key in KEYS}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A tree of three test photographs."""
    rng = np.random.default_rng(0)
    for key in KEYS:
        photograph = rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        save_png(tmp_path / "tree" / member_name(key, IMAGE), photograph)
    return tmp_path / "tree"


@pytest.fixture
def check(tmp_path: Path, images: Path) -> Callable[[dict[str, bytes]], SubmissionReport]:
    """A function that checks a zip of some files against the photographs."""

    def check_files(files: dict[str, bytes]) -> SubmissionReport:
        with zipfile.ZipFile(tmp_path / "submission.zip", "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return check_submission(
            tmp_path / "submission.zip", images, split="test", progress=ignore_progress
        )

    return check_files


def test_label_ids_are_the_official_ones() -> None:
    """Every train id is encoded as the label id of its class in the official table."""
    picture = Image.open(io.BytesIO(encode_label_ids(np.arange(19, dtype=np.uint8)[None])))
    assert "L" == picture.mode
    assert [official.trainId2label[i].id for i in range(19)] == np.asarray(picture)[0].tolist()


def test_names_match_the_official_pattern() -> None:
    """File names match the official `{city}_{seq}_{frame}*.png`, and are parsed by the check."""
    name = prediction_file_name(KEYS[0])
    assert fnmatch.fnmatch(name, f"{STEMS[0]}*.png")
    assert ({STEMS[0]: name}, SubmissionIssues([], [])) == group_by_frame([name])


def test_written_zip_has_the_predictions_and_passes_the_check(tmp_path: Path, images: Path) -> None:
    """The zip has a full-size PNG of predicted label ids per photograph, without problems."""
    torch.manual_seed(0)
    save(SegFormer("b0", decoder_width=16), tmp_path / "model")
    predictor = Predictor(checkpoint.load(tmp_path / "model"), InferenceSettings((32, 64)))
    out = tmp_path / "made" / "submission.zip"
    assert 3 == write_submission(predictor, images, out, split="test", progress=ignore_progress)
    assert SubmissionReport(3, [], []) == check_submission(
        out, images, split="test", progress=ignore_progress
    )
    photograph = np.asarray(Image.open(images / member_name(KEYS[1], IMAGE)))
    table = np.array([official.trainId2label[i].id for i in range(19)])
    with zipfile.ZipFile(out) as archive, archive.open(prediction_file_name(KEYS[1])) as file:
        label_ids = np.asarray(Image.open(file))
    assert SIZE == label_ids.shape
    np.testing.assert_array_equal(table[predictor.predict_classes(photograph)], label_ids)


def test_split_without_photographs_is_refused(tmp_path: Path, images: Path) -> None:
    """The message names the existing splits, and no zip is written."""
    torch.manual_seed(0)
    predictor = Predictor(SegFormer("b0", decoder_width=16), InferenceSettings((32, 64)))
    out = tmp_path / "submission.zip"
    with pytest.raises(ValueError, match=r"no photograph of the split val.*--split: test \(3\)"):
        write_submission(predictor, images, out, split="val", progress=ignore_progress)
    assert not out.exists()


def test_valid_zip_has_no_problems(check: Callable[..., SubmissionReport]) -> None:
    """The check finds nothing in a valid zip."""
    assert SubmissionReport(3, [], []) == check(valid_files())


def test_missing_and_extra_frames_are_named(check: Callable[..., SubmissionReport]) -> None:
    """Photographs without prediction and predictions without photograph are named."""
    files = valid_files()
    del files[prediction_file_name(KEYS[1])]
    files["bonn_000007_000019.png"] = png(7)
    report = check(files)
    assert [f"{STEMS[1]} has no prediction"] == report.problems
    assert ["bonn_000007_000019 has no photograph"] == report.notes


def test_two_predictions_of_a_frame_are_a_problem(check: Callable[..., SubmissionReport]) -> None:
    """The official script stops at the second file whose name begins with the frame's."""
    files = valid_files() | {f"{STEMS[0]}.png": png(7)}
    (problem,) = check(files).problems
    assert problem.startswith(f"{STEMS[0]} has 2 predictions")


def test_folders_and_other_files_are_notes(
    check: Callable[..., SubmissionReport],
) -> None:
    """The official script searches folders and skips other names; macOS files are ignored."""
    files = valid_files()
    files[f"results/{STEMS[0]}.png"] = files.pop(prediction_file_name(KEYS[0]))
    files |= {"notes.txt": b"", "__MACOSX/._a.png": b"", ".DS_Store": b""}
    report = check(files)
    assert [] == report.problems
    assert 2 == len(report.notes)
    assert "notes.txt is not a prediction; expected a name such as" in report.notes[0]
    assert (
        f"results/{STEMS[0]}.png is in a folder; the official script finds it there, too"
        == report.notes[1]
    )


def test_folders_are_searched_by_the_official_script(tmp_path: Path) -> None:
    """The script finds a prediction in a folder, beside other files."""
    script = importlib.import_module("cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling")
    settings = copy.copy(script.args)
    settings.predictionPath, settings.predictionWalk = str(tmp_path), None
    path = tmp_path / "results" / prediction_file_name(KEYS[0])
    save_png(path, np.full(SIZE, 7, dtype=np.uint8))
    (tmp_path / "notes.txt").touch()
    assert str(path) == script.getPrediction(settings, f"{STEMS[0]}_gtFine_labelIds.png")


def test_wrong_size_mode_and_damage_are_problems(check: Callable[..., SubmissionReport]) -> None:
    """A PNG that is too small, in color, or damaged is named; all are reported together."""
    names = list(valid_files())
    files = {
        names[0]: png(7, (12, 24)),
        names[1]: encode_png(Image.new("RGB", SIZE[::-1])),
        names[2]: b"no picture",
    }
    problems = check(files).problems
    assert f"{names[0]} has 12 x 24 pixels, its photograph 24 x 48" == problems[0]
    assert f"{names[1]}: mode RGB; expected 8-bit gray" == problems[1]
    assert problems[2].startswith(f"{names[2]}: not a PNG")


def test_unknown_ids_are_problems(check: Callable[..., SubmissionReport]) -> None:
    """The official script stops at an id that is not in its table; each such file is named."""
    files = valid_files() | {prediction_file_name(KEYS[2]): png(34)}
    expected = f"{prediction_file_name(KEYS[2])} has id 34, not in the official label table"
    assert [expected] == check(files).problems


@pytest.mark.parametrize("void", [7, 255])
def test_train_ids_are_recognized(void: int, check: Callable[..., SubmissionReport]) -> None:
    """A zip of train ids only, with or without void, is one problem."""
    names = list(valid_files())
    (problem,) = check({names[0]: png(0), names[1]: png(18), names[2]: png(void)}).problems
    assert problem.startswith("the PNGs hold train ids")


def test_unscored_ids_are_a_note(check: Callable[..., SubmissionReport]) -> None:
    """The server accepts parking; the note says that such pixels count as errors."""
    report = check(valid_files() | {prediction_file_name(KEYS[2]): png(9)})
    assert [] == report.problems
    expected = "id 9, never scored, in 1 prediction: each such pixel counts as a false negative"
    assert [expected] == report.notes


def test_without_photographs_the_official_test_set_is_expected(tmp_path: Path) -> None:
    """Too few frames of a city and a wrong size are problems, an unknown city is a note."""
    assert 1525 == sum(TEST_FRAMES_PER_CITY.values())
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(f"{STEMS[0]}.png", png(7))
        archive.writestr("zurich_000000_000019.png", png(7))
    report = check_submission(tmp_path / "a.zip", None, split="test", progress=ignore_progress)
    assert "berlin has 1 prediction, but 544 frames in the test set" == report.problems[0]
    wrong_size = f"{STEMS[0]}.png has 24 x 48 pixels, its photograph 1024 x 2048"
    assert [wrong_size] == report.problems[len(TEST_FRAMES_PER_CITY) :]
    assert ["zurich is not a city of the test set"] == report.notes


def test_command_lists_every_problem_and_fails(tmp_path: Path, images: Path) -> None:
    """`submit --check` lists everything it found, without the limit of error messages."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for i in range(30):
            archive.writestr(f"{i}.txt", b"")
    arguments = ["submit", "--check", str(tmp_path / "a.zip"), "--images", str(images)]
    result = CliRunner().invoke(app, arguments)
    assert 30 == result.stdout.count("is not a prediction")
    assert 3 == result.stdout.count("has no prediction")
    assert "3 problems" in str(result.exception)


def test_command_lists_notes_and_succeeds(tmp_path: Path, images: Path) -> None:
    """Notes are printed and do not fail the command."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name, content in valid_files().items():
            archive.writestr(f"results/{name}", content)
    arguments = ["submit", "--check", str(tmp_path / "a.zip"), "--images", str(images)]
    result = CliRunner().invoke(app, arguments)
    assert 0 == result.exit_code
    assert 3 == result.stdout.count("is in a folder; the official script finds it there, too")
    assert "no problems found; 3 predictions" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--images", "a"], "missing --model, --out"),
        (["--check", "a", "--model", "b"], "cannot be combined with --model or --out"),
    ],
)
def test_command_refuses_incomplete_and_contradictory_options(
    arguments: list[str], expected: str
) -> None:
    """Without --check all three paths are required; with it, two of them are refused."""
    result = CliRunner().invoke(app, ["submit", *arguments], env={"COLUMNS": "200"})
    assert 2 == result.exit_code
    assert expected in result.output
