from pathlib import Path

import numpy as np
import pytest

from pipeline.params.train import Train
from pipeline.training.fingerprint import BYTE_NEUTRAL, fingerprint_inputs


def fingerprint_project(folder: Path) -> dict[str, str]:
    """The fingerprint inputs of a training in this project."""
    return fingerprint_inputs(
        {"train.steps": 3}, code=[folder / "layers.py"], data=[folder / "pack"]
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a module and packed frames, one of whose files is large."""
    (tmp_path / "layers.py").write_text("WIDTH = 32\n")
    (tmp_path / "pack" / "train").mkdir(parents=True)
    (tmp_path / "pack" / "train" / "frames.csv").write_text("frame\n")
    np.zeros(2**23, np.uint8).tofile(tmp_path / "pack" / "train" / "images.npy")
    return tmp_path


def test_all_inputs_are_named(project: Path) -> None:
    """The inputs are parameters, modules, every data file, and the machine."""
    inputs = fingerprint_project(project)
    assert "3" == inputs["train.steps"]
    files = ("layers.py", "pack/train/frames.csv", "pack/train/images.npy")
    assert {str(project / name) for name in files} <= inputs.keys()
    assert {"torch", "numpy", "device", "threads", "processes"} <= inputs.keys()
    assert inputs == fingerprint_project(project)


@pytest.mark.parametrize("name", ["layers.py", "pack/train/frames.csv"])
def test_changed_file_changes_its_digest(project: Path, name: str) -> None:
    """The value of the changed file differs, and no other."""
    before = fingerprint_project(project)
    (project / name).write_text("changed")
    after = fingerprint_project(project)
    assert {str(project / name)} == {key for key in after if before[key] != after[key]}


@pytest.mark.parametrize("change", ["first", "last", "longer"])
def test_digest_of_a_large_file_covers_both_ends(project: Path, change: str) -> None:
    """The digest depends on the first byte, the last byte and the length."""
    before = fingerprint_project(project)
    path = project / "pack/train/images.npy"
    values = np.fromfile(path, np.uint8)
    if change == "longer":
        values = np.append(values, np.uint8(0))
    else:
        values[0 if change == "first" else -1] = 1
    values.tofile(path)
    assert before != fingerprint_project(project)


@pytest.mark.parametrize("name", sorted(BYTE_NEUTRAL))
def test_byte_neutral_parameters_are_left_out(name: str) -> None:
    """A byte-neutral parameter is one of the section, and its value does not change the inputs."""
    assert name.removeprefix("train.") in Train.model_fields
    one, other = (fingerprint_inputs({name: value}, code=[], data=[]) for value in (1, 2))
    assert one == other
