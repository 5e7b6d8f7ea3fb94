import os
import stat
from pathlib import Path

import pytest

from segformer.atomic import replacing, replacing_contents, write_text


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """Every (name, is_folder) that is flushed to the disk, in order."""
    if not Path("/proc/self/fd").exists():
        pytest.skip("only Linux tells the name of an open file")
    synced_paths: list[tuple[str, bool]] = []
    sync = os.fsync

    def note(handle: int) -> None:
        name = Path(f"/proc/self/fd/{handle}").readlink().name
        synced_paths.append((name, stat.S_ISDIR(os.fstat(handle).st_mode)))
        sync(handle)

    monkeypatch.setattr(os, "fsync", note)
    return synced_paths


def test_file_is_synced_before_the_rename(tmp_path: Path, synced: list[tuple[str, bool]]) -> None:
    """The content is flushed under its temporary name, then the folder with the final name."""
    folder = tmp_path / "folder"
    write_text(folder / "a.txt", "whole")
    assert [("a.txt.part", False), ("folder", True)] == synced
    assert "whole" == (folder / "a.txt").read_text()


def test_folder_is_synced_recursively(tmp_path: Path, synced: list[tuple[str, bool]]) -> None:
    """Every file and folder in it is flushed before the folder is renamed."""
    with replacing(tmp_path / "out") as part:
        (part / "inner").mkdir(parents=True)
        (part / "inner" / "a.txt").write_text("a")
    assert {("out.part", True), ("inner", True), ("a.txt", False)} == set(synced[:-1])
    assert (tmp_path.name, True) == synced[-1]


def test_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk error during the flush leaves the old file and no partial file."""
    path = tmp_path / "a.txt"
    path.write_text("before")

    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output error"):
        write_text(path, "after")
    assert ["a.txt"] == [item.name for item in tmp_path.iterdir()]
    assert "before" == path.read_text()


def write_results(out: Path, text: str) -> None:
    """Write a file and a folder."""
    with replacing_contents(out) as folder:
        (folder / "table.csv").write_text(text)
        (folder / "panels").mkdir()
        (folder / "panels" / f"{text}.png").write_text(text)


def list_files(folder: Path) -> set[str]:
    """All files below a folder."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_contents_are_replaced_and_other_files_stay(tmp_path: Path) -> None:
    """A second run replaces the files and folders of the first and touches nothing else."""
    out = tmp_path / "evaluate" / "ce-0"
    write_results(out, "first")
    (out / ".gitignore").write_text("/confusions.npz")
    write_results(out, "second")
    assert {"table.csv", "panels/second.png", ".gitignore"} == list_files(out)
    assert "second" == (out / "table.csv").read_text()
    assert [out] == list(out.parent.iterdir())


def test_links_into_a_cache_are_replaced(tmp_path: Path) -> None:
    """If the old result is a link, the link is replaced and its target is unchanged."""
    out = tmp_path / "out"
    out.mkdir()
    cached = tmp_path / "cached"
    cached.write_text("kept")
    (out / "table.csv").symlink_to(cached)
    write_results(out, "new")
    assert "kept" == cached.read_text()
    assert "new" == (out / "table.csv").read_text()


def test_error_changes_nothing(tmp_path: Path) -> None:
    """After an error no result is moved and no temporary folder is left."""
    out = tmp_path / "out"
    write_results(out, "first")

    def fail() -> None:
        with replacing_contents(out) as folder:
            (folder / "table.csv").write_text("half")
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail()
    assert {"table.csv", "panels/first.png"} == list_files(out)
    assert "first" == (out / "table.csv").read_text()
    assert [out] == list(tmp_path.iterdir())
