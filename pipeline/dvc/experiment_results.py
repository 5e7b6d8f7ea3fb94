"""Reads the metrics and the report of the pipeline, from the workspace or from an experiment."""

import json
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from pipeline import git
from pipeline.dvc.queries import find_output, load_metrics

_REPORT = "ablation.md"


@dataclass(frozen=True)
class PipelineResults:
    """Metrics and the ablation report.

    Attributes:
        scores: contents of each metrics file, by its path.
        report: ablation report in Markdown; empty if there is none.
        images: PNG files beside the report, by file name.
    """

    scores: dict[str, dict[str, Any]]
    report: str = ""
    images: dict[str, bytes] = field(default_factory=dict)


def load_results(experiment: str | None = None) -> PipelineResults:
    """Read the current results.

    Args:
        experiment: name of a DVC experiment; None reads the workspace. The results of an unknown
            experiment are empty.
    """
    if experiment is None:
        path = find_output(_REPORT)
        if path is None or not path.is_file():
            return PipelineResults(load_metrics())
        images = {image.name: image.read_bytes() for image in path.parent.glob("*.png")}
        return PipelineResults(load_metrics(), path.read_text(encoding="utf-8"), images)
    commit = _find_commit(experiment)
    if commit is None:
        return PipelineResults({})
    return _read_commit(commit)


def _read_commit(commit: str) -> PipelineResults:
    """Read an experiment's commit, which holds every file tracked by Git rather than by DVC."""
    paths = git.capture_output("ls-tree", "-r", "--name-only", commit).decode().splitlines()
    scores = {
        path: json.loads(git.capture_output("show", f"{commit}:{path}"))
        for path in paths
        if PurePosixPath(path).name == "metrics.json"
    }
    reports = [PurePosixPath(path) for path in paths if PurePosixPath(path).name == _REPORT]
    if not reports:
        return PipelineResults(scores)
    report = reports[0]
    images = {
        path.name: git.capture_output("show", f"{commit}:{path}")
        for path in map(PurePosixPath, paths)
        if path.parent == report.parent and path.suffix == ".png"
    }
    text = git.capture_output("show", f"{commit}:{report}").decode()
    return PipelineResults(scores, text, images)


def _find_commit(experiment: str) -> str | None:
    commits = git.capture_output(
        "for-each-ref", "--format=%(objectname)", f"refs/exps/*/*/{experiment}"
    )
    return next(iter(commits.decode().split()), None)
