import logging
from pathlib import Path

import pytest
import torch

from pipeline.training.resume import ResumeFolder

INGREDIENTS = {"train.steps": "120", "segformer/model/layers.py": "a" * 64, "torch": "2.13"}


def folder(work: Path, **changes: str) -> ResumeFolder:
    """The folder of a training with the ingredients above, but for some."""
    return ResumeFolder(work, "ce-0", INGREDIENTS | changes)


def test_equal_ingredients_share_a_folder_and_others_do_not(tmp_path: Path) -> None:
    """Whatever their order; one other value is another folder."""
    same = ResumeFolder(tmp_path, "ce-0", dict(reversed(INGREDIENTS.items())))
    assert folder(tmp_path).path == same.path
    assert folder(tmp_path).path != folder(tmp_path, torch="2.14").path
    assert folder(tmp_path).path.name.startswith("ce-0-")


def test_an_unfinished_training_of_other_ingredients_is_told_and_left(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What differs is named: values as they are, digests by the file alone; nothing is resumed."""
    other = folder(tmp_path, **{"train.steps": "60", "segformer/model/layers.py": "b" * 64})
    with other.lock():
        other.snapshots.write({"step": 40, "weights": torch.zeros(1)})
    mine = folder(tmp_path)
    with caplog.at_level(logging.WARNING), mine.lock():
        assert mine.load_latest() is None
    [message] = [record.message for record in caplog.records]
    assert (
        f"{other.path}: unfinished training with other settings (segformer/model/layers.py,"
        " train.steps 60 instead of 120) at step 40; delete it" in message
    )
    assert [40] == other.snapshots.steps()


def test_another_arm_is_no_stranger(tmp_path: Path) -> None:
    """The training of ce-01 or dice-0 says nothing about that of ce-0."""
    for name in ("ce-01", "dice-0"):
        other = ResumeFolder(tmp_path, name, {"a": "b"})
        with other.lock():
            other.snapshots.write({"step": 1})
    assert [] == folder(tmp_path).list_other_unfinished()


def test_one_process_at_a_time(tmp_path: Path) -> None:
    """While a process trains, a second one is told who it is; afterwards it may."""
    with folder(tmp_path).lock():
        second = folder(tmp_path).lock()
        with pytest.raises(ValueError, match=r"ce-0 is being trained by process \d+, perhaps"):
            second.__enter__()
    with folder(tmp_path).lock():
        pass


def test_the_run_is_remembered_until_the_training_is_done(tmp_path: Path) -> None:
    """Its id is there for the next process, an unknown one leaves none, and in the end all goes."""
    mine = folder(tmp_path)
    with mine.lock():
        assert mine.read_run_key() is None
        mine.record_run("abc")
    assert "abc" == folder(tmp_path).read_run_key()
    mine.remove()
    assert not mine.path.exists()
    assert folder(tmp_path).read_run_key() is None


@pytest.mark.parametrize("content", [None, "", '{"train.steps": '], ids=["none", "empty", "cut"])
def test_a_stranger_without_ingredients_blocks_nobody(tmp_path: Path, content: str | None) -> None:
    """It is told all the same, and that nobody knows what differs."""
    other = folder(tmp_path, torch="2.14")
    other.snapshots.write({"step": 40})
    if content is not None:
        (other.path / "ingredients.json").write_text(content)
    [message] = folder(tmp_path).list_other_unfinished()
    assert "with other settings (unknown: ingredients.json cannot be read) at step 40" in message


def test_what_a_killed_removal_left_is_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before the files are gone: nobody goes on from it, and the next training clears up."""
    mine, other = folder(tmp_path), folder(tmp_path, torch="2.14")
    with mine.lock():
        mine.snapshots.write({"step": 40})
    with monkeypatch.context() as killed:
        killed.setattr("shutil.rmtree", lambda *_, **__: None)
        mine.remove()
    assert [] == other.list_other_unfinished()
    assert folder(tmp_path).load_latest() is None
    assert [] != list(tmp_path.iterdir())
    with other.lock():
        assert [other.path] == list(tmp_path.iterdir())
