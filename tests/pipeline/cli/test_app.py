import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.cli.app import main
from pipeline.dataset.archive import IMAGE, LABEL_IDS, member_name
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
]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run the command line; give back its exit code and what it said to stderr."""

    def run(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["pipeline", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        return int(end.value.code or 0), capsys.readouterr().err

    return run


def remap(tree: Path, tmp_path: Path) -> list[object]:
    """The arguments that remap a tree."""
    out = tmp_path / "out"
    raw = ["--images", tree, "--ground-truth", tree, "--extra", tree]
    return ["remap", *raw, "--out", out, "--params", PARAMS_FILE]


def test_help_names_every_stage_and_loads_nothing_heavy() -> None:
    """--help lists the stages, and loads none of the heavy libraries."""
    code = (
        "import sys; from pipeline.cli.app import main\n"
        "sys.argv = ['pipeline', '--help']\n"
        "try: main()\n"
        "finally: print('loaded:', *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    told, _, loaded = done.stdout.partition("loaded:")
    assert 0 == done.returncode, done.stderr
    assert set(STAGES) <= set(told.split())
    heavy = {"torch", "mlflow", "prefect", "pandas", "numpy", "huggingface_hub"}
    assert set() == heavy & set(loaded.split())


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_has_an_example(stage: str) -> None:
    """The help of a stage shows a command that can be copied."""
    command = [sys.executable, "-m", "pipeline", stage, "--help"]
    told = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout
    assert f"Example: python -m pipeline {stage}" in " ".join(told.replace("│", " ").split())


def test_a_misspelt_parameter(run, tmp_path: Path) -> None:
    """A misspelt parameter of any stage stops the first one, with the right name."""
    params = write_changed_params(tmp_path, ("warmup_steps:", "warmup_stps:"))
    code, said = run("download", "--out", tmp_path / "out", "--params", params)
    assert 1 == code
    expected = "train.warmup_stps is not a parameter, did you mean train.warmup_steps?"
    assert expected in said.splitlines()[0]
    assert not (tmp_path / "out").exists()


def test_an_impossible_parameter(run, tmp_path: Path) -> None:
    """A negative number of steps names the key, the bound and the value."""
    params = write_changed_params(tmp_path, ("steps: 120", "steps: -5"))
    code, said = run("download", "--out", tmp_path / "out", "--params", params)
    assert 1 == code
    assert "train.steps: should be greater than 0 (it is -5)" in said


def test_an_empty_folder(run, tmp_path: Path) -> None:
    """An empty folder as source names the folder and what should be in it."""
    (tmp_path / "empty").mkdir()
    params = write_changed_params(
        tmp_path,
        ("source: synthetic", "source: folder"),
        ("folder: null", f"folder: {tmp_path / 'empty'}"),
    )
    code, said = run("download", "--out", tmp_path / "out", "--params", params)
    assert 1 == code
    assert str(tmp_path / "empty") in said
    assert "name the folder that holds the official zips, or the extracted tree" in said


def test_an_image_without_a_label(run, tree: Path, tmp_path: Path) -> None:
    """The photograph and the label that it lacks are named."""
    (tree / member_name(FRAME_KEYS[0], LABEL_IDS)).unlink()
    code, said = run(*remap(tree, tmp_path))
    assert 1 == code
    assert f"{member_name(FRAME_KEYS[0], IMAGE)} has no label" in said


def test_a_label_with_an_unknown_id(run, tree: Path, tmp_path: Path) -> None:
    """The file, the id and how often it occurs are named."""
    save_png(tree / member_name(FRAME_KEYS[0], LABEL_IDS), np.full(SIZE, 34, np.uint8))
    code, said = run(*remap(tree, tmp_path))
    assert 1 == code
    assert f"{member_name(FRAME_KEYS[0], LABEL_IDS)} has id 34 at 2048 pixels" in said


def test_an_unreadable_png(run, tree: Path, tmp_path: Path) -> None:
    """The file is named, with what to do."""
    (tree / member_name(FRAME_KEYS[0], IMAGE)).write_bytes(b"no picture")
    code, said = run(*remap(tree, tmp_path))
    assert 1 == code
    assert f"{member_name(FRAME_KEYS[0], IMAGE)}: not a PNG; get the file again" in said


def test_no_traceback_and_nothing_half_written(run, tree: Path, tmp_path: Path) -> None:
    """A mistake gives lines of text only, begun with `error:`, and no file."""
    (tree / member_name(FRAME_KEYS[0], IMAGE)).write_bytes(b"no picture")
    _, said = run(*remap(tree, tmp_path))
    assert said.startswith("error: remap: 1 problem")
    assert "Traceback" not in said
    assert [] == list((tmp_path / "out").glob("*"))
