import subprocess
from pathlib import Path

import pytest

from pipeline.tracking import provenance


def git(*arguments: str) -> str:
    """Run git here as somebody; what it prints."""
    somebody = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.org")
    done = subprocess.run(
        ["git", *somebody, *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project of one module under Git."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path)
    git("init", "--quiet")
    Path("code.py").write_text("committed = 1\n")
    git("add", "code.py")
    git("commit", "--quiet", "--message", "first")


def test_the_patch_makes_the_working_tree_from_the_commit(tmp_path: Path) -> None:
    """Changed, new and removed modules come back when the patch is applied to the commit."""
    Path("code.py").unlink()
    Path("new.py").write_text("new = 1\n")
    patch = provenance.diff_working_tree()
    git("clone", "--quiet", ".", "copy")
    subprocess.run(["git", "-C", "copy", "apply", "-"], input=patch, check=True)
    assert ["new.py"] == [path.name for path in Path("copy").glob("*.py")]


def test_the_users_index_is_left_alone() -> None:
    """Nothing is staged by looking."""
    Path("new.py").write_text("new = 1\n")
    provenance.diff_working_tree()
    assert "?? new.py\n" == git("status", "--porcelain")


def test_nothing_but_code_is_in_the_patch() -> None:
    """A file that lies beside the code, with a password perhaps, is in no run."""
    Path("password.txt").write_text("swordfish\n")
    Path(".env").write_text("PASSWORD=swordfish\n")
    assert b"" == provenance.diff_working_tree()


def test_what_is_there_is_kept() -> None:
    """The parameters as they were given, under the name that DVC knows, and DVC's own files."""
    Path("params.yaml").write_text("a: 1\n")
    Path("dvc.lock").write_text("schema: '2.0'\n")
    with provenance.source_snapshot(Path("params.yaml")) as folder:
        assert {"params.yaml", "dvc.lock", provenance.PATCH_NAME} == {
            path.name for path in folder.iterdir()
        }
        assert "a: 1\n" == (folder / "params.yaml").read_text()


def test_outside_git_there_is_no_patch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is that a mistake."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert b"" == provenance.diff_working_tree()


def test_a_patch_too_large_says_so() -> None:
    """A patch above a MiB is not kept, and nobody can mistake that for no changes."""
    Path("large.py").write_text("".join(f"x{i} = {i}\n" for i in range(2**17)))
    with provenance.source_snapshot(Path("params.yaml")) as folder:
        assert provenance.PATCH_TOO_LARGE == (folder / provenance.PATCH_NAME).read_bytes()
