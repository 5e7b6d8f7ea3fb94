from pathlib import Path

import numpy as np
import pytest

from pipeline.params.train import Train
from pipeline.training.fingerprint import BYTE_NEUTRAL, fingerprint_inputs


def made_of(folder: Path) -> dict[str, str]:
    """The ingredients of a training of everything in a folder."""
    return fingerprint_inputs(
        {"train.steps": 3}, code=[folder / "layers.py"], data=[folder / "pack"]
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A module, and packed frames of which one file is large."""
    (tmp_path / "layers.py").write_text("WIDTH = 32\n")
    (tmp_path / "pack" / "train").mkdir(parents=True)
    (tmp_path / "pack" / "train" / "frames.csv").write_text("frame\n")
    np.zeros(2**23, np.uint8).tofile(tmp_path / "pack" / "train" / "images.npy")
    return tmp_path


def test_everything_is_named(project: Path) -> None:
    """Parameters, modules, every file of the data, and the machine."""
    found = made_of(project)
    assert "3" == found["train.steps"]
    files = ("layers.py", "pack/train/frames.csv", "pack/train/images.npy")
    assert {str(project / name) for name in files} <= found.keys()
    assert {"torch", "numpy", "device", "threads", "processes"} <= found.keys()
    assert found == made_of(project)


@pytest.mark.parametrize("name", ["layers.py", "pack/train/frames.csv"])
def test_another_byte_is_another_ingredient(project: Path, name: str) -> None:
    """The name of the file that changed is the one whose value differs."""
    before = made_of(project)
    (project / name).write_text("changed")
    after = made_of(project)
    assert {str(project / name)} == {key for key in after if before[key] != after[key]}


@pytest.mark.parametrize("change", ["first", "last", "longer"])
def test_a_large_file_is_looked_at_from_end_to_end(project: Path, change: str) -> None:
    """Its first and its last byte count, and its length, without reading all of it."""
    before = made_of(project)
    path = project / "pack/train/images.npy"
    values = np.fromfile(path, np.uint8)
    if change == "longer":
        values = np.append(values, np.uint8(0))
    else:
        values[0 if change == "first" else -1] = 1
    values.tofile(path)
    assert before != made_of(project)


@pytest.mark.parametrize("name", sorted(BYTE_NEUTRAL))
def test_what_changes_no_byte_is_no_ingredient(name: str) -> None:
    """It is a parameter of the section, and of two values both are the same training."""
    assert name.removeprefix("train.") in Train.model_fields
    one, other = (fingerprint_inputs({name: value}, code=[], data=[]) for value in (1, 2))
    assert one == other
