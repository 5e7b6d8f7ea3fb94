"""What made a run: the commit, the DVC stage and experiment, and the Prefect flow run, as tags."""

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pipeline import git
from pipeline.dvc.lockfile import upstream_md5

REPRODUCES = "reproduces"
"""The tag of a run that makes another one again: that one's id."""

REPRODUCES_VARIABLE = "SEGFORMER_REPRODUCES"
"""The environment variable by which a stage is told of it."""

EVALUATES = "evaluates"
"""The tag of a run in which an experiment scores a model that it did not train: its training."""

MODEL_SHA256 = "model.sha256"
"""The tag with the sum of the model's file, which a training writes when it has finished."""

DVC_MD5_PREFIX = "dvc.md5."
"""What a tag begins with that tells DVC's sum of an output."""

_FROM_ENVIRONMENT = {
    "dvc.stage": "DVC_STAGE",
    "dvc.exp": "DVC_EXP_NAME",
    "prefect.flow_run_id": "PREFECT_FLOW_RUN_ID",
    REPRODUCES: REPRODUCES_VARIABLE,
}


def collect_tags() -> dict[str, str]:
    """Return what the surroundings tell; what they do not tell is left out.

    `git.dirty` is about code and parameters: a pipeline at work always changes its metrics.
    """
    found = {
        tag: os.environ[name] for tag, name in _FROM_ENVIRONMENT.items() if os.environ.get(name)
    }
    if stage := os.environ.get("DVC_STAGE"):
        found["mlflow.source.name"] = f"dvc repro {stage}"
    if commit := _git_output("rev-parse", "--verify", "HEAD"):
        found["mlflow.source.git.commit"] = commit
        changed = _git_output(
            "status", "--porcelain", "--", ":/*.py", ":/params.yaml", ":/dvc.yaml"
        )
        found["git.dirty"] = str(bool(changed)).lower()
    return found


def dvc_experiment() -> str | None:
    """Return the name of the DVC experiment that this is a part of; None: of the workspace."""
    return os.environ.get("DVC_EXP_NAME") or None


def run_for_results(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return which run gets what is found out here about a trained arm, as run.json names it.

    The training's; but where an experiment did not train the arm itself, a run of its own: what
    it tries is not to be taken for what the workspace's models reach.

    Args:
        facts: what run.json of the arm says.
    """
    here = dvc_experiment()
    if here is None or here == facts.get("experiment"):
        return dict(facts)
    # A name may be given again on another commit, and may hold what a key must not.
    where = re.sub(r"[^\w.-]", "-", here) + os.environ.get("DVC_EXP_BASELINE_REV", "")[:8]
    return {**facts, "mlflow_run_id": None, "run_key": f"{_training_reference(facts)}-in-{where}"}


def evaluates_tag(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tag by which an experiment's own run names the training of what it scored."""
    return {} if run_for_results(facts) == facts else {EVALUATES: _training_reference(facts)}


def _training_reference(facts: Mapping[str, Any]) -> str | None:
    """The key of the training's run, or its id in MLflow where an earlier version left no key."""
    return facts.get("run_key") or facts.get("mlflow_run_id")


def dvc_md5_tags(*paths: Path) -> dict[str, str]:
    """Return DVC's md5 of outputs and of all that they were made from, by tag."""
    return {f"{DVC_MD5_PREFIX}{path}": text for path, text in upstream_md5(paths).items()}


def describe_run(name: str, tags: dict[str, str]) -> str:
    """Return a Markdown paragraph on a run for people who open it."""
    what = [f"{key} `{tags[key]}`" for key in ("loss", "seed") if key in tags]
    lines = [f"**{name}**" + (": " + ", ".join(what) if what else "")]
    if verdict := tags.get("verdict"):
        lines.append(verdict)
    if training := tags.get(EVALUATES):
        lines.append(f"Scores the model of the run `{training}`, which it did not train.")
    if stage := tags.get("dvc.stage"):
        lines.append(f"Made by `dvc repro {stage}`.")
    if experiment := tags.get("dvc.exp"):
        lines.append(f"See it with `dvc exp show`, take it over with `dvc exp apply {experiment}`.")
    if commit := tags.get("mlflow.source.git.commit"):
        state = " with local changes" if tags.get("git.dirty") == "true" else ""
        lines.append(f"Code: commit `{commit[:12]}`{state}.")
    return "\n\n".join(lines)


def _git_output(*arguments: str) -> str:
    return git.capture_output(*arguments).decode().strip()


PATCH_NAME = "changes.patch"
"""What the working tree's code had on top of the commit; empty if it had nothing."""

PATCH_TOO_LARGE = b"# too large to be kept\n"
"""What the patch says instead, if it is."""

_SNAPSHOT_FILES = ("params.yaml", "dvc.yaml", "dvc.lock")
_CODE_PATTERNS = (":/*.py", ":/dvc.yaml")  # and nothing else: a file beside them may hold a secret
_MAX_PATCH_BYTES = 2**20  # bytes of a patch


@contextmanager
def source_snapshot(params: Path) -> Iterator[Path]:
    """Give a folder with copies of the parameters, DVC's files, and the patch if there is one."""
    with TemporaryDirectory() as name:
        folder = Path(name) / "source"
        folder.mkdir()
        for path in (params, *map(Path, _SNAPSHOT_FILES[1:])):
            if path.exists():
                shutil.copyfile(path, folder / path.name)
        changes = diff_working_tree()
        # Also without any: that of an earlier attempt at the same training must not stay.
        (folder / PATCH_NAME).write_bytes(
            changes if len(changes) <= _MAX_PATCH_BYTES else PATCH_TOO_LARGE
        )
        yield folder


def diff_working_tree() -> bytes:
    """The code's difference to the commit, new files included; empty outside Git."""
    index = git.capture_output("rev-parse", "--git-path", "index").strip().decode()
    if not index:
        return b""
    with TemporaryDirectory() as folder:
        # A copy of the index, so that nothing is staged in the user's own.
        own = Path(folder) / "index"
        if Path(index).exists():
            shutil.copyfile(index, own)
        for part in _CODE_PATTERNS:  # one by one: Git adds nothing if one of them is not there
            git.capture_output("add", "--all", "--", part, index=own)
        return git.capture_output(
            "diff", "--cached", "--binary", "HEAD", "--", *_CODE_PATTERNS, index=own
        )
