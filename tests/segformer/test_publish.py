from pathlib import Path

import pytest

from segformer.atomic import replacing_contents


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
