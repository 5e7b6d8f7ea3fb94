import subprocess
from pathlib import Path

import pytest

from pipeline.tracking import provenance

ENVIRONMENT_VARIABLES = ("DVC_STAGE", "DVC_EXP_NAME", "PREFECT_FLOW_RUN_ID")


@pytest.fixture(autouse=True)
def empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Run the test in an empty folder outside Git, DVC and Prefect."""
    for name in ENVIRONMENT_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))


@pytest.fixture
def repository(empty_folder: None) -> None:
    """A repository of one module, in which the test runs."""
    git("init", "--quiet")
    Path("code.py").write_text("committed = 1\n")
    git("add", "code.py")
    git("commit", "--quiet", "--message", "first")


def git(*arguments: str) -> str:
    """Run git in the current folder, and return what it prints."""
    identity = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.org")
    process = subprocess.run(
        ["git", *identity, *arguments], capture_output=True, text=True, check=True
    )
    return process.stdout


def commit_project() -> str:
    """Create a repository of a small project, and return the commit."""
    git("init", "--quiet")
    for name in ("params.yaml", "dvc.yaml", "dvc.lock", "metrics.json", "pipeline/cli/app.py"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("1\n")
    git("add", ".")
    git("commit", "--quiet", "--message", "first")
    return git("rev-parse", "HEAD").strip()


def test_no_tags_outside_git_dvc_and_prefect() -> None:
    """Outside Git, DVC and Prefect there are no tags, and no error."""
    assert {} == provenance.collect_tags()


def test_no_commit_without_git(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without Git is no error either."""
    monkeypatch.setenv("PATH", "")
    assert {} == provenance.collect_tags()


def test_commit_tag() -> None:
    """The commit is in the tag that MLflow's page reads."""
    commit = commit_project()
    assert {"mlflow.source.git.commit": commit, "git.dirty": "false"} == provenance.collect_tags()


@pytest.mark.parametrize(
    "name", ["params.yaml", "dvc.yaml", "pipeline/cli/app.py", "pipeline/new.py"]
)
def test_changed_code_and_parameters_are_dirty(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change of a file that decides the result is recorded, also from a subfolder."""
    commit_project()
    Path(name).write_text("2\n")
    monkeypatch.chdir("pipeline")
    assert provenance.collect_tags()["git.dirty"] == "true"


@pytest.mark.parametrize("name", ["dvc.lock", "metrics.json"])
def test_outputs_of_the_pipeline_are_not_dirty(name: str) -> None:
    """The pipeline always changes its lock file and its metrics: they do not count."""
    commit_project()
    Path(name).write_text("2\n")
    assert provenance.collect_tags()["git.dirty"] == "false"


def test_description_of_a_run() -> None:
    """The description has the arm, the command, the experiment and the commit."""
    tags = {
        "loss": "ce",
        "seed": "0",
        "dvc.stage": "train@ce-0",
        "dvc.exp": "lofty-ibex",
        "mlflow.source.git.commit": "0123456789abcdef",
        "git.dirty": "true",
    }
    text = provenance.describe_run("ce-0", tags)
    for part in ("**ce-0**: loss `ce`, seed `0`", "dvc repro train@ce-0", "apply lofty-ibex"):
        assert part in text
    assert "`0123456789ab` with local changes" in text
    assert provenance.describe_run("ablation", {}) == "**ablation**"


def test_patch_recreates_the_working_tree(repository: None) -> None:
    """The patch, applied to the commit, restores changed, new and removed modules."""
    Path("code.py").unlink()
    Path("new.py").write_text("new = 1\n")
    patch = provenance.diff_working_tree()
    git("clone", "--quiet", ".", "copy")
    subprocess.run(["git", "-C", "copy", "apply", "-"], input=patch, check=True)
    assert ["new.py"] == [path.name for path in Path("copy").glob("*.py")]


def test_patch_leaves_the_index(repository: None) -> None:
    """Nothing is staged in the user's index."""
    Path("new.py").write_text("new = 1\n")
    provenance.diff_working_tree()
    assert "?? new.py\n" == git("status", "--porcelain")


def test_patch_contains_only_code(repository: None) -> None:
    """A file beside the code, which may contain a password, is not recorded."""
    Path("password.txt").write_text("swordfish\n")
    Path(".env").write_text("PASSWORD=swordfish\n")
    assert b"" == provenance.diff_working_tree()


def test_snapshot_has_parameters_and_dvc_files(repository: None) -> None:
    """The snapshot has the parameters, DVC's files that exist, and the patch."""
    Path("params.yaml").write_text("a: 1\n")
    Path("dvc.lock").write_text("schema: '2.0'\n")
    with provenance.source_snapshot(Path("params.yaml")) as folder:
        assert {"params.yaml", "dvc.lock", provenance.PATCH_NAME} == {
            path.name for path in folder.iterdir()
        }
        assert "a: 1\n" == (folder / "params.yaml").read_text()


def test_no_patch_outside_git() -> None:
    """Outside Git the patch is empty, and that is no error."""
    assert b"" == provenance.diff_working_tree()


def test_too_large_patch_says_so(repository: None) -> None:
    """A patch above 1 MiB is not recorded, but replaced by a line that says so."""
    Path("large.py").write_text("".join(f"x{i} = {i}\n" for i in range(2**17)))
    with provenance.source_snapshot(Path("params.yaml")) as folder:
        assert provenance.PATCH_TOO_LARGE == (folder / provenance.PATCH_NAME).read_bytes()
