import logging
from pathlib import Path

import pytest
import torch

from pipeline.training.resume import ResumeFolder

INPUTS = {"train.steps": "120", "segformer/model/layers.py": "a" * 64, "torch": "2.13"}


def make_folder(work: Path, **changes: str) -> ResumeFolder:
    """The folder of a training with the inputs above and some changes."""
    return ResumeFolder(work, "ce-0", INPUTS | changes)


def test_equal_inputs_share_a_folder(tmp_path: Path) -> None:
    """The order of the inputs does not matter; another value gives another folder."""
    same = ResumeFolder(tmp_path, "ce-0", dict(reversed(INPUTS.items())))
    assert make_folder(tmp_path).path == same.path
    assert make_folder(tmp_path).path != make_folder(tmp_path, torch="2.14").path
    assert make_folder(tmp_path).path.name.startswith("ce-0-")


def test_unfinished_training_with_other_inputs_is_kept_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The warning has short values, and of digests the file only; nothing is resumed."""
    other = make_folder(tmp_path, **{"train.steps": "60", "segformer/model/layers.py": "b" * 64})
    with other.lock():
        other.snapshots.write({"step": 40, "weights": torch.zeros(1)})
    own = make_folder(tmp_path)
    with caplog.at_level(logging.WARNING), own.lock():
        assert own.load_latest() is None
    [message] = [record.message for record in caplog.records]
    assert (
        f"{other.path}: unfinished training with other settings (segformer/model/layers.py,"
        " train.steps 60 instead of 120) at step 40; delete it" in message
    )
    assert [40] == other.snapshots.steps()


def test_other_arms_are_not_reported(tmp_path: Path) -> None:
    """Unfinished trainings of ce-01 and dice-0 are not reported for ce-0."""
    for name in ("ce-01", "dice-0"):
        other = ResumeFolder(tmp_path, name, {"a": "b"})
        with other.lock():
            other.snapshots.write({"step": 1})
    assert [] == make_folder(tmp_path).list_other_unfinished()


def test_folder_is_locked_by_one_process(tmp_path: Path) -> None:
    """A second process is refused with the id of the first, until the first one has ended."""
    with make_folder(tmp_path).lock():
        second = make_folder(tmp_path).lock()
        with pytest.raises(ValueError, match=r"ce-0 is being trained by process \d+, perhaps"):
            second.__enter__()
    with make_folder(tmp_path).lock():
        pass


def test_run_key_is_kept_until_the_training_is_done(tmp_path: Path) -> None:
    """The run key is there for the next process; removing the folder removes it."""
    own = make_folder(tmp_path)
    with own.lock():
        assert own.read_run_key() is None
        own.record_run("abc")
    assert "abc" == make_folder(tmp_path).read_run_key()
    own.remove()
    assert not own.path.exists()
    assert make_folder(tmp_path).read_run_key() is None


@pytest.mark.parametrize("content", [None, "", '{"train.steps": '], ids=["none", "empty", "cut"])
def test_other_training_with_unreadable_inputs(tmp_path: Path, content: str | None) -> None:
    """It is reported with an unknown difference."""
    other = make_folder(tmp_path, torch="2.14")
    other.snapshots.write({"step": 40})
    if content is not None:
        (other.path / "ingredients.json").write_text(content)
    [message] = make_folder(tmp_path).list_other_unfinished()
    assert "with other settings (unknown: ingredients.json cannot be read) at step 40" in message


def test_partly_removed_folder_is_not_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the removal is killed, nothing resumes from the rest, and the next training deletes it."""
    own, other = make_folder(tmp_path), make_folder(tmp_path, torch="2.14")
    with own.lock():
        own.snapshots.write({"step": 40})
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", lambda *_, **__: None)
        own.remove()
    assert [] == other.list_other_unfinished()
    assert make_folder(tmp_path).load_latest() is None
    assert [] != list(tmp_path.iterdir())
    with other.lock():
        assert [other.path] == list(tmp_path.iterdir())
