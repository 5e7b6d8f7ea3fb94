import os
import stat
from pathlib import Path

import pytest

from segformer.atomic import replacing, write_text


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """What has to be on the disk before the work goes on: a name, and whether it was a folder."""
    if not Path("/proc/self/fd").exists():
        pytest.skip("only Linux tells the name of an open file")
    noted: list[tuple[str, bool]] = []
    sync = os.fsync

    def note(handle: int) -> None:
        name = Path(f"/proc/self/fd/{handle}").readlink().name
        noted.append((name, stat.S_ISDIR(os.fstat(handle).st_mode)))
        sync(handle)

    monkeypatch.setattr(os, "fsync", note)
    return noted


def test_a_file_is_on_the_disk_before_it_gets_its_name(
    tmp_path: Path, settled: list[tuple[str, bool]]
) -> None:
    """First the content, under its passing name, then the folder that holds the new name."""
    folder = tmp_path / "folder"
    write_text(folder / "a.txt", "whole")
    assert [("a.txt.part", False), ("folder", True)] == settled
    assert "whole" == (folder / "a.txt").read_text()


def test_a_folder_is_on_the_disk_with_all_it_holds(
    tmp_path: Path, settled: list[tuple[str, bool]]
) -> None:
    """Every file and folder in it, before the folder gets its name."""
    with replacing(tmp_path / "out") as part:
        (part / "inner").mkdir(parents=True)
        (part / "inner" / "a.txt").write_text("a")
    assert {("out.part", True), ("inner", True), ("a.txt", False)} == set(settled[:-1])
    assert (tmp_path.name, True) == settled[-1]


def test_what_cannot_be_written_leaves_what_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fails at the last moment takes nothing away and leaves nothing half."""
    path = tmp_path / "a.txt"
    path.write_text("before")

    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output error"):
        write_text(path, "after")
    assert ["a.txt"] == [each.name for each in tmp_path.iterdir()]
    assert "before" == path.read_text()
