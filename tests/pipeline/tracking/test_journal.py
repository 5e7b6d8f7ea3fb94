import resource
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pipeline.tracking.journal import Journal, Position, list_journals, list_pending_runs


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """A journal that is being written."""
    with closing(Journal.create(tmp_path / "journals", "ce-0")) as opened:
        yield opened


def told(journal: Journal) -> list[tuple[str, object]]:
    """The lines that are whole, without their times."""
    return [(line.kind, line.content.get("x")) for line in journal.lines()]


def test_a_new_journal_is_held_before_it_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever looks for journals that wait never gets hold of one that is just being made."""
    found = []
    rename = Path.rename

    def look(path: Path, target: Path) -> Path:
        found.append(list_pending_runs(tmp_path))
        made = rename(path, target)
        found.append(list_pending_runs(tmp_path))
        return made

    monkeypatch.setattr(Path, "rename", look)
    with closing(Journal.create(tmp_path, "ce-0")) as journal:
        journal.append("metrics", x=1)
        assert [("metrics", 1)] == told(journal)
    assert [set(), set()] == found


def test_runs_that_wait_are_counted_once(tmp_path: Path) -> None:
    """A training that was killed and its evaluation have a journal each, and are one run."""
    for name in ("ce-0", "ce-0", "dice-0"):
        with closing(Journal.create(tmp_path, name)) as journal:
            journal.append("run", key=f"key of {name}")
    assert {"key of ce-0", "key of dice-0"} == list_pending_runs(tmp_path)


def test_lines_are_read_as_they_were_written(journal: Journal) -> None:
    """Another process reads the lines in their order, and from any of them on."""
    for x in (1, 2, 3):
        journal.append("metrics", x=x)
    lines = list(Journal(journal.folder).lines())
    assert [1, 2, 3] == [line.content["x"] for line in lines]
    assert [3] == [line.content["x"] for line in journal.lines(lines[1].end)]


@pytest.mark.parametrize("torn", [b'{"kind": "metr', b"\x00\x00\n", b"[]\n", b"{}\n"])
def test_a_torn_line_is_left_out(journal: Journal, torn: bytes) -> None:
    """What a crash or a power cut made of the last line is no line; those before it stay."""
    journal.append("metrics", x=1)
    with (journal.folder / "lines.jsonl").open("ab") as file:
        file.write(torn)
    assert [("metrics", 1)] == told(journal)


def test_copies_outlive_what_they_are_copies_of(journal: Journal, tmp_path: Path) -> None:
    """Two files of one name are kept apart, as they were when they were told of."""
    path = tmp_path / "history.csv"
    copies = []
    for text in ("first", "second"):
        path.write_text(text)
        copies.append(journal.folder / journal.copy_in(path))
    path.unlink()
    assert ["first", "second"] == [copy.read_text() for copy in copies]
    assert {"history.csv"} == {copy.name for copy in copies}


def test_one_process_has_it(journal: Journal, tmp_path: Path) -> None:
    """A journal that is being written cannot be had; closed, it can."""
    [other] = list_journals(tmp_path / "journals")
    assert not other.try_lock()
    journal.close()
    assert other.try_lock()
    other.close()


def test_what_was_sent_is_remembered(journal: Journal) -> None:
    """How much was sent is there for the next process; before anything was, nothing is."""
    assert Position() == journal.load_position()
    journal.save_position(Position("abc", 12, [0]))
    assert Position("abc", 12, [0]) == Journal(journal.folder).load_position()


def test_the_oldest_comes_first(tmp_path: Path) -> None:
    """Journals come in the order in which they were begun, whatever their names."""
    for name in ("dice-0", "ce-0", "ablation"):
        Journal.create(tmp_path, name).close()
    names = [journal.folder.name.split("-")[1] for journal in list_journals(tmp_path)]
    assert ["dice", "ce", "ablation"] == names


def test_half_a_line_is_an_error(journal: Journal) -> None:
    """A nearly full disk, here a limit of the file's size, writes a part: the caller is told."""
    journal.append("metrics", x=1)
    size = (journal.folder / "lines.jsonl").stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, limits[1]))
    try:
        with pytest.raises(OSError, match="No space left"):
            journal.append("metrics", x=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [("metrics", 1)] == told(journal)


def test_what_is_dropped_does_not_come_back(journal: Journal, tmp_path: Path) -> None:
    """A process that has found a journal which another one drops cannot have it, or make it."""
    [other] = list_journals(tmp_path / "journals")
    journal.remove()
    assert not other.try_lock()
    assert not other.exists
    assert [] == list((tmp_path / "journals").iterdir())


def test_nobody_has_it_while_it_is_dropped(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is let go of when it is a journal no more, not before."""
    [other] = list_journals(tmp_path / "journals")
    had = []
    unlink = Path.unlink

    def look_and_unlink(path: Path, *, missing_ok: bool) -> None:
        had.append(other.try_lock())
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", look_and_unlink)
    journal.remove()
    assert [False] == had


def test_what_cannot_be_dropped_fails_nothing(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the disk does not let go of a copy, it is no journal any more all the same."""

    def refuse(path: Path) -> None:
        raise PermissionError(path)

    monkeypatch.setattr(shutil, "rmtree", refuse)
    journal.remove()
    assert [] == list_journals(tmp_path / "journals")
