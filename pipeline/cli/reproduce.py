"""Repeats a training run with its commit, parameters and data, in a new folder."""

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
    """Repeat a training run in a new folder, and compare the models byte by byte.

    Args:
        reference: the run: its id in MLflow, the beginning of its id, or its name, which selects
            the newest finished run of that name.
        folder: folder to create; None for reproduced-<run id>.
        experiment: DVC experiment in which to look a name up; None for the workspace.

    Yields:
        Messages on progress, missing data and differences.

    Raises:
        ValueError: if the run cannot be reproduced, or the models differ.
    """
    with TemporaryDirectory() as scratch:
        if folder:
            _check_is_new(folder)  # before the download from MLflow
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
        yield f"training {stage} in a new run with the tag {provenance.REPRODUCES}"
        environment = {
            "MLFLOW_TRACKING_URI": store.tracking_uri(),
            "OMP_NUM_THREADS": threads,
            provenance.REPRODUCES_VARIABLE: origin.run_id,
        }
        dvc.run_stage(stage, on_line=_logger.info, force=True, environment=environment)
        yield _compare_models(stage, origin)


def _check_is_new(folder: Path) -> None:
    if folder.exists():
        raise ValueError(f"{folder} already exists: choose another folder with --folder")


def _stage_name(origin: Origin) -> str:
    stage = origin.tags.get("dvc.stage", "")
    for tag, description in (("dvc.stage", "DVC stage"), (_COMMIT_TAG, "commit")):
        if tag not in origin.tags:
            raise ValueError(
                f"the run {origin.name} has no tag for its {description}: only runs of `dvc repro`"
                " or `segformer retrain` in a Git repository can be reproduced"
            )
    return stage


def _check_out(origin: Origin, folder: Path) -> str:
    """Check out the run's commit, uncommitted changes and parameters; return a description."""
    commit = origin.tags[_COMMIT_TAG]
    # Shared, so that the clone has commits without a branch, such as those of DVC's experiments.
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
        return f"{commit[:12]} WITHOUT its uncommitted changes, which were too large to store"
    return commit[:12] + (" and its uncommitted changes" if changes else "")


def _run_git(*arguments: str, action: str) -> None:
    process = subprocess.run(["git", *arguments], capture_output=True, text=True)
    if process.returncode:
        reason = process.stderr.strip().splitlines()[-1:]
        raise ValueError(
            f"git cannot {action}: {''.join(reason)}; get the commit with `git fetch`, and run"
            " this command in the run's repository"
        )


def _compare_machines(origin: Origin) -> Generator[str, None, str]:
    """Yield the differences of this machine from the run's; return the run's number of threads."""
    original = json.loads((origin.source / INPUTS_FILE).read_text())
    for name, current in fingerprint.describe_machine().items():
        if name != "threads" and original.get(name) != current:  # threads are set to the run's
            yield f"{name} is {current} here, {original.get(name)} in the run: models may differ"
    return str(original["threads"])


def _restore_data(stage: str, origin: Origin, missing: list[str]) -> Iterator[str]:
    """Run the upstream stages that DVC's cache lacks, and compare their outputs with the run's.

    Raises:
        ValueError: if an output differs.
    """
    upstream = [name for name in dvc.upstream_subgraph(dvc.load_graph(), [stage]) if name != stage]
    for name in upstream:
        outcome = dvc.run_stage(name, on_line=_logger.info, force=False, environment={})
        if outcome is dvc.StageOutcome.RAN:
            yield f"{name}: run again, because its outputs are not in DVC's cache"
    for path in (path for name in upstream for path in lockfile.stage_outputs(name)):
        expected = origin.tags.get(f"{provenance.DVC_MD5_PREFIX}{path}")
        if expected and (md5 := lockfile.output_md5(path)) != expected:
            note = ", which DVC's cache no longer has" if str(path) in missing else ""
            raise ValueError(
                f"{path} differs from the run's data: md5 {md5} here, {expected} in the run{note};"
                " get the run's data into DVC's cache, for example with `dvc fetch`"
            )
    yield "the data is the same as the run's (md5)"


def _compare_models(stage: str, origin: Origin) -> str:
    [model] = [path for path in lockfile.stage_outputs(stage) if path.name == "model.safetensors"]
    path = Path.cwd() / model
    sha256 = hashlib.sha256(model.read_bytes()).hexdigest()
    if (expected := origin.tags.get(provenance.MODEL_SHA256)) is None:
        return f"{path}: not compared, because the run has no tag {provenance.MODEL_SHA256}"
    if sha256 != expected:
        raise ValueError(
            f"{path} differs from the run's model: sha256 {sha256} here, {expected} in the run;"
            " equal bytes need train.deterministic on a GPU, and the same type of processor,"
            " number of threads and versions on a CPU (docs/training.md)"
        )
    return f"{path}: same bytes as the run's model (sha256 {sha256[:12]}...)"
