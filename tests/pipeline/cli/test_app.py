import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.cli import app
from pipeline.cli.app import main
from pipeline.dataset.archive import IMAGE, LABEL_IDS, member_name
from pipeline.download.retry import RetriesExhaustedError
from tests.pipeline.conftest import FRAME_KEYS, PARAMS_FILE, SIZE, save_png, write_changed_params

ROOT = Path(__file__).parents[3]
STAGES = [
    "download",
    "remap",
    "frequency",
    "pack",
    "pretrained",
    "train",
    "evaluate",
    "gradients",
    "ablation",
    "explain",
]


@pytest.fixture
def run_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """A function that runs the command line and returns its exit code and standard error."""

    def run_command(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["pipeline", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        return int(stop.value.code or 0), capsys.readouterr().err

    return run_command


def remap_arguments(tree: Path, tmp_path: Path) -> list[object]:
    """Return the arguments of `remap` for an extracted tree."""
    out = tmp_path / "out"
    raw = ["--images", tree, "--ground-truth", tree, "--extra", tree]
    return ["remap", *raw, "--out", out, "--params", PARAMS_FILE]


def test_help_lists_stages_without_heavy_imports() -> None:
    """`--help` lists the stages in the graph's order, and imports none of the heavy libraries."""
    code = (
        "import sys; from pipeline.cli.app import main\n"
        "sys.argv = ['pipeline', '--help']\n"
        "try: main()\n"
        "finally: print('loaded:', *sys.modules)"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    text, _, modules = process.stdout.partition("loaded:")
    assert 0 == process.returncode, process.stderr
    commands = re.findall(r"^│ (\w+)", text, flags=re.MULTILINE)
    assert STAGES == [name for name in commands if name in STAGES]
    heavy = {"torch", "mlflow", "prefect", "pandas", "numpy", "huggingface_hub", "pydantic"}
    assert set() == heavy & set(modules.split())


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_has_an_example(stage: str) -> None:
    """The help of a stage has an example of the command."""
    command = [sys.executable, "-m", "pipeline", stage, "--help"]
    text = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout
    assert f"Example: segformer {stage}" in " ".join(text.replace("│", " ").split())


def test_misspelled_parameter(run_command, tmp_path: Path) -> None:
    """A misspelled parameter of any stage stops every stage, and the error suggests a name."""
    params = write_changed_params(tmp_path, ("warmup_steps:", "warmup_stps:"))
    code, errors = run_command("download", "--out", tmp_path / "out", "--params", params)
    assert 1 == code
    expected = "train.warmup_stps is not a parameter, did you mean train.warmup_steps?"
    assert expected in errors.splitlines()[0]
    assert not (tmp_path / "out").exists()


def test_parameter_out_of_range(run_command, tmp_path: Path) -> None:
    """The error for a negative number of steps has the key, the bound and the value."""
    params = write_changed_params(tmp_path, ("steps: 120", "steps: -5"))
    code, errors = run_command("download", "--out", tmp_path / "out", "--params", params)
    assert 1 == code
    assert "train.steps: should be greater than 0 (it is -5)" in errors


def test_empty_source_folder(run_command, tmp_path: Path) -> None:
    """The error for an empty source folder has its path and the expected contents."""
    (tmp_path / "empty").mkdir()
    params = write_changed_params(
        tmp_path,
        ("source: synthetic", "source: folder"),
        ("folder: null", f"folder: {tmp_path / 'empty'}"),
    )
    code, errors = run_command("download", "--out", tmp_path / "out", "--params", params)
    assert 1 == code
    assert str(tmp_path / "empty") in errors
    assert "set it to the folder with the official zips, or to the extracted tree" in errors


def test_image_without_a_label(run_command, tree: Path, tmp_path: Path) -> None:
    """An image without a label is named."""
    (tree / member_name(FRAME_KEYS[0], LABEL_IDS)).unlink()
    code, errors = run_command(*remap_arguments(tree, tmp_path))
    assert 1 == code
    assert f"{member_name(FRAME_KEYS[0], IMAGE)} has no label" in errors


def test_label_with_an_unknown_id(run_command, tree: Path, tmp_path: Path) -> None:
    """The error has the file, the id and its number of pixels."""
    save_png(tree / member_name(FRAME_KEYS[0], LABEL_IDS), np.full(SIZE, 34, np.uint8))
    code, errors = run_command(*remap_arguments(tree, tmp_path))
    assert 1 == code
    assert f"{member_name(FRAME_KEYS[0], LABEL_IDS)} has id 34 at 2048 pixels" in errors


def test_unreadable_png(run_command, tree: Path, tmp_path: Path) -> None:
    """The error has the file and what to do."""
    (tree / member_name(FRAME_KEYS[0], IMAGE)).write_bytes(b"no picture")
    code, errors = run_command(*remap_arguments(tree, tmp_path))
    assert 1 == code
    assert f"{member_name(FRAME_KEYS[0], IMAGE)}: not a PNG; get the file again" in errors


def test_error_without_traceback_and_partial_files(run_command, tree: Path, tmp_path: Path) -> None:
    """An error is printed as text that starts with `error:`, and no file is written."""
    (tree / member_name(FRAME_KEYS[0], IMAGE)).write_bytes(b"no picture")
    _, errors = run_command(*remap_arguments(tree, tmp_path))
    assert errors.startswith("error: remap: 1 problem")
    assert "Traceback" not in errors
    assert [] == list((tmp_path / "out").glob("*"))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RetriesExhaustedError("gave up after 9 tries"), os.EX_TEMPFAIL),
        (ValueError("wrong password"), 1),
        (FileNotFoundError("no such file"), 1),
    ],
)
def test_exit_code_tells_transient_errors_from_others(
    run_command, monkeypatch: pytest.MonkeyPatch, error: Exception, expected: int
) -> None:
    """The exit code is EX_TEMPFAIL after all retries, which a later try may fix, and else 1."""

    def fail() -> None:
        raise error

    monkeypatch.setattr(app, "app", fail)
    assert (expected, f"error: {error}\n") == run_command("download")
