from pathlib import Path

import pytest

from segformer.atomic import replacing_contents


def fill(out: Path, text: str) -> None:
    """Publish a file and a folder."""
    with replacing_contents(out) as folder:
        (folder / "table.csv").write_text(text)
        (folder / "panels").mkdir()
        (folder / "panels" / f"{text}.png").write_text(text)


def listing(folder: Path) -> set[str]:
    """All files below a folder."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_results_are_replaced_and_the_rest_stays(tmp_path: Path) -> None:
    """A second run replaces the first one's files and folders and touches nothing else."""
    out = tmp_path / "evaluate" / "ce-0"
    fill(out, "first")
    (out / ".gitignore").write_text("/confusions.npz")
    fill(out, "second")
    assert {"table.csv", "panels/second.png", ".gitignore"} == listing(out)
    assert "second" == (out / "table.csv").read_text()
    assert [out] == list(out.parent.iterdir())


def test_read_only_links_into_a_cache_are_not_written_into(tmp_path: Path) -> None:
    """Where the old result is a link, the link is replaced and what it points at stays."""
    out = tmp_path / "out"
    out.mkdir()
    cached = tmp_path / "cached"
    cached.write_text("kept")
    (out / "table.csv").symlink_to(cached)
    fill(out, "new")
    assert "kept" == cached.read_text()
    assert "new" == (out / "table.csv").read_text()


def test_an_error_leaves_everything_as_it_was(tmp_path: Path) -> None:
    """When a result cannot be made, none is published and nothing is left beside."""
    out = tmp_path / "out"
    fill(out, "first")

    def fail() -> None:
        with replacing_contents(out) as folder:
            (folder / "table.csv").write_text("half")
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail()
    assert {"table.csv", "panels/first.png"} == listing(out)
    assert "first" == (out / "table.csv").read_text()
    assert [out] == list(tmp_path.iterdir())
