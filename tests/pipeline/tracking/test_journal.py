import resource
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pipeline.tracking.journal import Journal, Position, list_journals, list_pending_runs


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """An open, locked journal."""
    with closing(Journal.create(tmp_path / "journals", "ce-0")) as journal:
        yield journal


def read_lines(journal: Journal) -> list[tuple[str, object]]:
    """The kind of each complete line, and its value `x`."""
    return [(line.kind, line.content.get("x")) for line in journal.lines()]


def test_new_journal_is_locked_before_it_is_visible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process can never lock a journal that is being created."""
    pending = []
    rename = Path.rename

    def list_and_rename(path: Path, target: Path) -> Path:
        pending.append(list_pending_runs(tmp_path))
        renamed = rename(path, target)
        pending.append(list_pending_runs(tmp_path))
        return renamed

    monkeypatch.setattr(Path, "rename", list_and_rename)
    with closing(Journal.create(tmp_path, "ce-0")) as journal:
        journal.append("metrics", x=1)
        assert [("metrics", 1)] == read_lines(journal)
    assert [set(), set()] == pending


def test_pending_runs_are_counted_once(tmp_path: Path) -> None:
    """A killed training and its evaluation have a journal each, and are one run."""
    for name in ("ce-0", "ce-0", "dice-0"):
        with closing(Journal.create(tmp_path, name)) as journal:
            journal.append("run", key=f"key of {name}")
    assert {"key of ce-0", "key of dice-0"} == list_pending_runs(tmp_path)


def test_lines_are_read_in_order(journal: Journal) -> None:
    """Another process reads the lines in the order they were written, from any of them on."""
    for x in (1, 2, 3):
        journal.append("metrics", x=x)
    lines = list(Journal(journal.folder).lines())
    assert [1, 2, 3] == [line.content["x"] for line in lines]
    assert [3] == [line.content["x"] for line in journal.lines(lines[1].end)]


@pytest.mark.parametrize("torn", [b'{"kind": "metr', b"\x00\x00\n", b"[]\n", b"{}\n"])
def test_torn_line_is_skipped(journal: Journal, torn: bytes) -> None:
    """A last line torn by a crash or a power cut is skipped; the lines before it are read."""
    journal.append("metrics", x=1)
    with (journal.folder / "lines.jsonl").open("ab") as file:
        file.write(torn)
    assert [("metrics", 1)] == read_lines(journal)


def test_copies_survive_their_originals(journal: Journal, tmp_path: Path) -> None:
    """Two versions of a file are kept apart, each as it was when it was copied."""
    path = tmp_path / "history.csv"
    copies = []
    for text in ("first", "second"):
        path.write_text(text)
        copies.append(journal.folder / journal.copy_in(path))
    path.unlink()
    assert ["first", "second"] == [copy.read_text() for copy in copies]
    assert {"history.csv"} == {copy.name for copy in copies}


def test_lock_is_exclusive(journal: Journal, tmp_path: Path) -> None:
    """An open journal cannot be locked; a closed one can."""
    [other] = list_journals(tmp_path / "journals")
    assert not other.try_lock()
    journal.close()
    assert other.try_lock()
    other.close()


def test_position_is_saved(journal: Journal) -> None:
    """The next process reads the saved position; a new journal is at its beginning."""
    assert Position() == journal.load_position()
    journal.save_position(Position("abc", 12, [0]))
    assert Position("abc", 12, [0]) == Journal(journal.folder).load_position()


def test_journals_are_listed_oldest_first(tmp_path: Path) -> None:
    """Journals are listed in the order of their creation, whatever their names."""
    for name in ("dice-0", "ce-0", "ablation"):
        Journal.create(tmp_path, name).close()
    names = [journal.folder.name.split("-")[1] for journal in list_journals(tmp_path)]
    assert ["dice", "ce", "ablation"] == names


def test_partly_written_line_is_an_error(journal: Journal) -> None:
    """If the disk, here the limit of the file size, takes only a part of a line, append fails."""
    journal.append("metrics", x=1)
    size = (journal.folder / "lines.jsonl").stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, limits[1]))
    try:
        with pytest.raises(OSError, match="No space left"):
            journal.append("metrics", x=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [("metrics", 1)] == read_lines(journal)


def test_removed_journal_is_not_created_again(journal: Journal, tmp_path: Path) -> None:
    """A process that has listed a journal removed by another one cannot lock or recreate it."""
    [other] = list_journals(tmp_path / "journals")
    journal.remove()
    assert not other.try_lock()
    assert not other.exists
    assert [] == list((tmp_path / "journals").iterdir())


def test_journal_is_locked_during_its_removal(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No other process can lock a journal before it is removed."""
    [other] = list_journals(tmp_path / "journals")
    locked = []
    unlink = Path.unlink

    def lock_and_unlink(path: Path, *, missing_ok: bool) -> None:
        locked.append(other.try_lock())
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", lock_and_unlink)
    journal.remove()
    assert [False] == locked


def test_removal_survives_errors_of_the_disk(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a copy cannot be deleted, the journal counts as removed nevertheless."""

    def refuse(path: Path) -> None:
        raise PermissionError(path)

    monkeypatch.setattr(shutil, "rmtree", refuse)
    journal.remove()
    assert [] == list_journals(tmp_path / "journals")
