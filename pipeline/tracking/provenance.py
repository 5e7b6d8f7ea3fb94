"""The origin of a run: commit, DVC stage, experiment and flow run as tags; the source as files."""

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
"""The tag of a run that reproduces another one: the id of that run."""

REPRODUCES_VARIABLE = "SEGFORMER_REPRODUCES"
"""The environment variable with the value of that tag, set for the stage that reproduces."""

EVALUATES = "evaluates"
"""The tag of a run in which an experiment scores a model of another training: that training."""

MODEL_SHA256 = "model.sha256"
"""The tag with the SHA-256 of the model file, which a training writes when it has finished."""

DVC_MD5_PREFIX = "dvc.md5."
"""The prefix of tags with DVC's md5 of an output; the output's path follows."""

PATCH_NAME = "changes.patch"
"""The file with the code's uncommitted changes; empty if there are none."""

PATCH_TOO_LARGE = b"# too large to be kept\n"
"""The content of that file if the changes exceed 1 MiB."""

_ENVIRONMENT_TAGS = {
    "dvc.stage": "DVC_STAGE",
    "dvc.exp": "DVC_EXP_NAME",
    "prefect.flow_run_id": "PREFECT_FLOW_RUN_ID",
    REPRODUCES: REPRODUCES_VARIABLE,
}
_DVC_FILES = ("dvc.yaml", "dvc.lock")
_CODE_PATTERNS = (":/*.py", ":/dvc.yaml")  # no other file: one beside them may hold a secret
_MAX_PATCH_BYTES = 2**20


def collect_tags() -> dict[str, str]:
    """Return the tags that environment and repository give; others are left out.

    `git.dirty` covers code and parameters only, because the pipeline itself changes its metrics.
    """
    tags = {
        tag: os.environ[name] for tag, name in _ENVIRONMENT_TAGS.items() if os.environ.get(name)
    }
    if stage := os.environ.get("DVC_STAGE"):
        tags["mlflow.source.name"] = f"dvc repro {stage}"
    if commit := _git_output("rev-parse", "--verify", "HEAD"):
        tags["mlflow.source.git.commit"] = commit
        changes = _git_output(
            "status", "--porcelain", "--", ":/*.py", ":/params.yaml", ":/dvc.yaml"
        )
        tags["git.dirty"] = str(bool(changes)).lower()
    return tags


def dvc_experiment() -> str | None:
    """Return the name of the DVC experiment that runs this process; None in the workspace."""
    return os.environ.get("DVC_EXP_NAME") or None


def run_for_results(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return run.json of an arm, changed to refer to the run that gets new results of the arm.

    That is the training's run; but if a DVC experiment did not train the arm itself, a run of its
    own, so that its scores are not mistaken for those of the workspace's models.

    Args:
        facts: run.json of the arm.
    """
    experiment = dvc_experiment()
    if experiment is None or experiment == facts.get("experiment"):
        return dict(facts)
    # The name may be used again on another commit, and may contain characters not valid in a key.
    suffix = re.sub(r"[^\w.-]", "-", experiment) + os.environ.get("DVC_EXP_BASELINE_REV", "")[:8]
    key = f"{_training_reference(facts)}-in-{suffix}"
    return {**facts, "mlflow_run_id": None, "run_key": key}


def evaluates_tag(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tag EVALUATES for an experiment's own run; none for the training's run."""
    return {} if run_for_results(facts) == facts else {EVALUATES: _training_reference(facts)}


def dvc_md5_tags(*paths: Path) -> dict[str, str]:
    """Return DVC's md5 of outputs and of everything upstream of them, by tag."""
    return {f"{DVC_MD5_PREFIX}{path}": md5 for path, md5 in upstream_md5(paths).items()}


def describe_run(name: str, tags: dict[str, str]) -> str:
    """Return the description of a run that MLflow's page shows, in Markdown."""
    arm = ", ".join(f"{key} `{tags[key]}`" for key in ("loss", "seed") if key in tags)
    paragraphs = [f"**{name}**: {arm}" if arm else f"**{name}**"]
    if verdict := tags.get("verdict"):
        paragraphs.append(verdict)
    if training := tags.get(EVALUATES):
        paragraphs.append(f"Evaluation of the model that the run `{training}` trained.")
    if stage := tags.get("dvc.stage"):
        paragraphs.append(f"Created by `dvc repro {stage}`.")
    if experiment := tags.get("dvc.exp"):
        paragraphs.append(
            "List DVC's experiments with `dvc exp show`; apply this one with"
            f" `dvc exp apply {experiment}`."
        )
    if commit := tags.get("mlflow.source.git.commit"):
        state = " with local changes" if tags.get("git.dirty") == "true" else ""
        paragraphs.append(f"Code: commit `{commit[:12]}`{state}.")
    return "\n\n".join(paragraphs)


@contextmanager
def source_snapshot(params: Path) -> Iterator[Path]:
    """Give a temporary folder with copies of the parameters and DVC's files, and the patch."""
    with TemporaryDirectory() as name:
        folder = Path(name) / "source"
        folder.mkdir()
        for path in (params, *map(Path, _DVC_FILES)):
            if path.exists():
                shutil.copyfile(path, folder / path.name)
        changes = diff_working_tree()
        # Also if empty: it replaces the patch of an earlier attempt at the same training.
        (folder / PATCH_NAME).write_bytes(
            changes if len(changes) <= _MAX_PATCH_BYTES else PATCH_TOO_LARGE
        )
        yield folder


def diff_working_tree() -> bytes:
    """Return the code's changes since the commit, new files included; empty outside Git."""
    index = git.capture_output("rev-parse", "--git-path", "index").strip().decode()
    if not index:
        return b""
    with TemporaryDirectory() as folder:
        # A copy of the index, so that nothing is staged in the user's own.
        index_copy = Path(folder) / "index"
        if Path(index).exists():
            shutil.copyfile(index, index_copy)
        for pattern in _CODE_PATTERNS:  # one by one: Git adds nothing if one pattern has no match
            git.capture_output("add", "--all", "--", pattern, index=index_copy)
        return git.capture_output(
            "diff", "--cached", "--binary", "HEAD", "--", *_CODE_PATTERNS, index=index_copy
        )


def _training_reference(facts: Mapping[str, Any]) -> str | None:
    """The key of the training's run, or its MLflow id if an earlier version stored no key."""
    return facts.get("run_key") or facts.get("mlflow_run_id")


def _git_output(*arguments: str) -> str:
    return git.capture_output(*arguments).decode().strip()
