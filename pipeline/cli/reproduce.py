"""Makes a run once more: its commit, parameters and data in a new folder, then its training."""

import hashlib
import json
import logging
import shutil
import subprocess
from collections.abc import Generator, Iterator
from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline import dvc
from pipeline.dvc import lockfile
from pipeline.tracking import provenance, store
from pipeline.tracking.origin import Origin, fetch_origin
from pipeline.training import fingerprint
from pipeline.training.resume import INPUTS_FILE

_COMMIT_TAG = "mlflow.source.git.commit"
_logger = logging.getLogger(__name__)


def reproduce_run(
    reference: str, folder: Path | None, experiment: str | None = None
) -> Iterator[str]:
    """Train what a run has trained once more, in a new folder, and compare the models.

    Args:
        reference: a training's run: its id in MLflow, the beginning of it, or its name, which means
            the newest one that finished.
        folder: where; it must not be there yet. None: reproduced-<run>.
        experiment: the DVC experiment whose runs are meant by a name; None: the workspace's.

    Yields:
        What is done, what is missing, what differs: a sentence each.

    Raises:
        ValueError: if the run cannot be made again, or the model's bytes are others.
    """
    with TemporaryDirectory() as scratch:
        if folder:
            _check_is_new(folder)  # before anything is fetched
        origin = fetch_origin(reference, Path(scratch), experiment)
        if folder is None:
            folder = Path(f"reproduced-{origin.run_id[:8]}")
            _check_is_new(folder)
        stage = _stage_name(origin)
        yield f"{origin.name}: commit {_check_out(origin, folder)} in {folder}"
        threads = yield from _compare_machines(origin)
    missing = dvc.restore_into(folder)
    with chdir(folder):
        yield from _restore_data(stage, origin, missing)
        yield f"training {stage}, in a run of its own with the tag {provenance.REPRODUCES}"
        environment = {
            "MLFLOW_TRACKING_URI": store.tracking_uri(),
            "OMP_NUM_THREADS": threads,
            provenance.REPRODUCES_VARIABLE: origin.run_id,
        }
        dvc.run_stage(stage, on_line=_logger.info, force=True, environment=environment)
        yield _compare_models(stage, origin)


def _check_is_new(folder: Path) -> None:
    if folder.exists():
        raise ValueError(f"{folder} is there already: name another place with --folder")


def _stage_name(origin: Origin) -> str:
    stage = origin.tags.get("dvc.stage", "")
    for tag, what in (("dvc.stage", "stage of dvc.yaml"), (_COMMIT_TAG, "commit")):
        if tag not in origin.tags:
            raise ValueError(
                f"{origin.name} names no {what}: only what `dvc repro` or `python -m pipeline "
                "retrain` trained in a Git repository can be made again"
            )
    return stage


def _check_out(origin: Origin, folder: Path) -> str:
    """Make the folder hold the commit, the changes on top of it, and the parameters."""
    commit = origin.tags[_COMMIT_TAG]
    # Shared: the clone has commits that no branch leads to, such as those of DVC's experiments.
    _run_git("clone", "--quiet", "--shared", "--no-checkout", ".", str(folder), action="clone")
    try:
        _run_git(
            "-C", str(folder), "checkout", "--quiet", "--detach", commit, action=f"find {commit}"
        )
        patch = origin.source / provenance.PATCH_NAME
        changes = patch.read_bytes()
        if changes and changes != provenance.PATCH_TOO_LARGE:
            _run_git(
                "-C", str(folder), "apply", "--binary", str(patch), action="apply the run's changes"
            )
    except ValueError:
        shutil.rmtree(folder)
        raise
    for name in ("params.yaml", "dvc.yaml", "dvc.lock"):
        if (origin.source / name).exists():
            shutil.copyfile(origin.source / name, folder / name)
    if changes == provenance.PATCH_TOO_LARGE:
        return f"{commit[:12]} WITHOUT its uncommitted changes, which were too large to keep"
    return commit[:12] + (" and its uncommitted changes" if changes else "")


def _run_git(*arguments: str, action: str) -> None:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:]
        raise ValueError(
            f"git cannot {action}: {''.join(reason)}; "
            "bring the commit here with `git fetch`, and give this command in its repository"
        )


def _compare_machines(origin: Origin) -> Generator[str, None, str]:
    """Say what of the machine differs from the run's; return its number of threads."""
    theirs = json.loads((origin.source / INPUTS_FILE).read_text())
    for name, here in fingerprint.describe_machine().items():
        if name != "threads" and theirs.get(name) != here:  # of them we take as many
            yield f"the run had {name} {theirs.get(name)}, here it is {here}: bytes may differ"
    return str(theirs["threads"])


def _restore_data(stage: str, origin: Origin, missing: list[str]) -> Iterator[str]:
    """Make again what the training reads and DVC's cache has not; it must be the run's."""
    before = dvc.upstream_subgraph(dvc.load_graph(), [stage])
    for one in (one for one in before if one != stage):
        outcome = dvc.run_stage(one, on_line=_logger.info, force=False, environment={})
        if outcome is dvc.StageOutcome.RAN:
            yield f"{one}: made again, as DVC's cache does not hold it"
    for path in (path for one in before if one != stage for path in lockfile.stage_outputs(one)):
        there = origin.tags.get(f"{provenance.DVC_MD5_PREFIX}{path}")
        if there and (here := lockfile.output_md5(path)) != there:
            lost = " (and DVC's cache has lost the run's)" if str(path) in missing else ""
            raise ValueError(
                f"{path} is not what the run read: md5 {here} here, {there} there{lost}; "
                "bring the run's data into DVC's cache, for example with `dvc fetch`"
            )
    yield "the data is the run's, by its sums"


def _compare_models(stage: str, origin: Origin) -> str:
    [model] = [path for path in lockfile.stage_outputs(stage) if path.name == "model.safetensors"]
    found = hashlib.sha256(model.read_bytes()).hexdigest()
    if (expected := origin.tags.get(provenance.MODEL_SHA256)) is None:
        return f"{Path.cwd() / model}: the run tells no sum of its model to compare with"
    if found != expected:
        raise ValueError(
            f"{Path.cwd() / model} is not the run's model: sha256 {found} here, {expected} there; "
            "on a GPU only train.deterministic gives the same bytes, on a CPU the same kind of "
            "processor, threads and versions (docs/training.md)"
        )
    return f"{Path.cwd() / model}: the same bytes as the run's (sha256 {found[:12]}...)"
