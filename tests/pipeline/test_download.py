import json
import os
import zipfile
from pathlib import Path

import pytest

from pipeline.stages.download import (
    IMAGE_ZIP,
    LABEL_ZIP,
    Download,
    Synthetic,
    run,
    source_changes,
)
from tests.pipeline.conftest import KEYS

DRAWN = Synthetic(train=2, val=1, size=(32, 64), seed=0)


def download(out: Path, folder: Path | None = None) -> None:
    """Run the stage."""
    source = "folder" if folder else "synthetic"
    params = Download(source=source, folder=str(folder) if folder else None, synthetic=DRAWN)
    run(params, out=out, progress=lambda done, total: None)


def names(path: Path) -> list[str]:
    """What a zip holds, after checking its sums."""
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return archive.namelist()


def test_a_tree_becomes_the_two_zips(tree: Path, tmp_path: Path) -> None:
    """Every file of an extracted tree lies in the zip of its package, byte for byte."""
    download(tmp_path / "out", tree)
    inside = names(tmp_path / "out" / IMAGE_ZIP) + names(tmp_path / "out" / LABEL_ZIP)
    assert sorted(path.relative_to(tree).as_posix() for path in tree.rglob("*.png")) == sorted(
        inside
    )
    with zipfile.ZipFile(tmp_path / "out" / IMAGE_ZIP) as archive:
        for name in archive.namelist():
            assert (tree / name).read_bytes() == archive.read(name)


def test_the_official_zips_are_taken_as_they_are(tree: Path, tmp_path: Path) -> None:
    """Zips in the folder are copied byte for byte and stay as they were."""
    download(tmp_path / "zips", tree)
    download(tmp_path / "out", tmp_path / "zips")
    for name in (IMAGE_ZIP, LABEL_ZIP):
        assert (tmp_path / "zips" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()


def test_synthetic_frames_are_the_same_every_time(tmp_path: Path) -> None:
    """The same seed gives the same two zips and the same source.json."""
    download(tmp_path / "a")
    download(tmp_path / "b")
    for name in (IMAGE_ZIP, LABEL_ZIP, "source.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_what_lies_there_is_replaced_not_written_into(tree: Path, tmp_path: Path) -> None:
    """A second download leaves a file alone that shares its content with the first one's zip."""
    download(tmp_path / "out", tree)
    cached = tmp_path / "cached.zip"
    os.link(tmp_path / "out" / IMAGE_ZIP, cached)
    cached.chmod(0o444)
    before = cached.read_bytes()
    download(tmp_path / "out")
    assert before == cached.read_bytes()
    assert before != (tmp_path / "out" / IMAGE_ZIP).read_bytes()


@pytest.mark.parametrize("what", ["nothing", "empty", "images"])
def test_a_folder_without_the_data_is_refused(tree: Path, tmp_path: Path, what: str) -> None:
    """No folder, an empty one, or one without label maps: one message, and nothing is written."""
    folder = tmp_path / "folder"
    if what != "nothing":
        folder.mkdir()
    if what == "images":
        (tree / "leftImg8bit").rename(folder / "leftImg8bit")
    expected = "is not a folder" if what == "nothing" else f"neither .*{LABEL_ZIP} nor gtFine/"
    with pytest.raises(ValueError, match=expected):
        download(tmp_path / "out", folder)
    assert [] == list((tmp_path / "out").iterdir())


def test_an_unchanged_folder_has_no_changes(tree: Path, tmp_path: Path) -> None:
    """Right after a download nothing has changed; a synthetic source never does."""
    download(tmp_path / "out", tree)
    assert [] == source_changes(tmp_path / "out" / "source.json")
    download(tmp_path / "drawn")
    assert [] == source_changes(tmp_path / "drawn" / "source.json")


def test_changes_of_the_folder_are_told(tree: Path, tmp_path: Path) -> None:
    """A file added, one removed and one touched are told, each with its name."""
    download(tmp_path / "out", tree)
    first, second, third = sorted((tree / "leftImg8bit").rglob("*.png"))[:3]
    second.unlink()
    os.utime(third, (0, 0))
    first.with_name("new.png").write_bytes(first.read_bytes())
    changes = source_changes(tmp_path / "out" / "source.json")
    assert 3 == len(changes)
    assert "1 file added since the download" in changes[0]
    assert "new.png" in changes[0]
    assert second.name in changes[1]
    assert third.name in changes[2]


def test_a_folder_that_is_gone_is_no_change(tree: Path, tmp_path: Path) -> None:
    """What was taken in stays good when its folder is unmounted."""
    download(tmp_path / "out", tree)
    tree.rename(tmp_path / "elsewhere")
    assert [] == source_changes(tmp_path / "out" / "source.json")


def test_an_emptied_folder_is_no_change(tree: Path, tmp_path: Path) -> None:
    """A disk that is not mounted leaves an empty folder: what was taken in stays good."""
    download(tmp_path / "out", tree)
    for package in list(tree.iterdir()):
        package.rename(tmp_path / package.name)
    assert [] == source_changes(tmp_path / "out" / "source.json")


def test_a_relative_folder_is_meant_from_the_project(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A queued experiment runs in a copy of the project and still finds the folder."""
    copy = tmp_path / "project" / ".dvc" / "tmp" / "exps" / "one"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    monkeypatch.setenv("DVC_ROOT", str(copy))
    download(tmp_path / "out", Path("..") / tree.name)
    assert 2 * len(KEYS) == len(names(tmp_path / "out" / IMAGE_ZIP)) * 2


def test_source_json_names_the_files(tree: Path, tmp_path: Path) -> None:
    """source.json holds the folder, and name, size and time of every file."""
    download(tmp_path / "out", tree)
    facts = json.loads((tmp_path / "out" / "source.json").read_text())
    assert str(tree.resolve()) == facts["folder"]
    assert 2 * len(KEYS) == len(facts["files"])
