import subprocess
from pathlib import Path

import pytest

from pipeline.tracking import provenance

SURROUNDINGS = ("DVC_STAGE", "DVC_EXP_NAME", "PREFECT_FLOW_RUN_ID")


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing around, and an empty folder to be in."""
    for name in SURROUNDINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))


def git(*arguments: str) -> str:
    """Run git here as somebody; what it prints."""
    somebody = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.org")
    done = subprocess.run(
        ["git", *somebody, *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def commit_project() -> str:
    """A small project under git; the commit."""
    git("init", "--quiet")
    for name in ("params.yaml", "dvc.yaml", "dvc.lock", "metrics.json", "pipeline/cli/app.py"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("1\n")
    git("add", ".")
    git("commit", "--quiet", "--message", "first")
    return git("rev-parse", "HEAD")


def test_nothing_around_gives_no_tags() -> None:
    """Outside git, DVC and Prefect there is nothing to tell, and that is no mistake."""
    assert {} == provenance.collect_tags()


def test_without_git_there_is_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without git is no mistake either."""
    monkeypatch.setenv("PATH", "")
    assert {} == provenance.collect_tags()


def test_the_commit_is_named() -> None:
    """The commit stands where MLflow's page looks for it."""
    commit = commit_project()
    assert {"mlflow.source.git.commit": commit, "git.dirty": "false"} == provenance.collect_tags()


@pytest.mark.parametrize(
    "name", ["params.yaml", "dvc.yaml", "pipeline/cli/app.py", "pipeline/new.py"]
)
def test_changed_code_and_parameters_make_it_dirty(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change of what decides the result is told, seen from a folder below as well."""
    commit_project()
    Path(name).write_text("2\n")
    monkeypatch.chdir("pipeline")
    assert provenance.collect_tags()["git.dirty"] == "true"


@pytest.mark.parametrize("name", ["dvc.lock", "metrics.json"])
def test_what_the_pipeline_writes_does_not(name: str) -> None:
    """A pipeline at work always changes its lock and its metrics: that is not dirt."""
    commit_project()
    Path(name).write_text("2\n")
    assert provenance.collect_tags()["git.dirty"] == "false"


def test_the_description_tells_how_to_get_there() -> None:
    """A person who opens the run reads the arm, the command, the experiment and the commit."""
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
