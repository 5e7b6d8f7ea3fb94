"""Reads the metrics and the reports of the pipeline, from the workspace or an experiment."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from pipeline import git
from pipeline.dvc.queries import find_outputs, load_metrics

_REPORTS = ("ablation.md", "explain.md")


@dataclass(frozen=True)
class PipelineResults:
    """Metrics, the ablation's report, and the report on the best arm's attention heads.

    Attributes:
        scores: contents of each metrics file, by its path.
        reports: those that exist, in Markdown.
        images: PNG files beside and below the reports, by file name.
    """

    scores: dict[str, dict[str, Any]]
    reports: Sequence[str] = ()
    images: dict[str, bytes] = field(default_factory=dict)


def load_results(experiment: str | None = None) -> PipelineResults:
    """Read the current results.

    Args:
        experiment: name of a DVC experiment; None reads the workspace. The results of an unknown
            experiment are empty.
    """
    if experiment is None:
        outputs = find_outputs(*_REPORTS).values()
        paths = [path for path in outputs if path is not None and path.is_file()]
        images = {
            image.name: image.read_bytes()
            for path in paths
            for image in sorted(path.parent.rglob("*.png"))
        }
        texts = [path.read_text(encoding="utf-8") for path in paths]
        return PipelineResults(load_metrics(), texts, images)
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
    reports = [path for name in _REPORTS for path in map(PurePosixPath, paths) if path.name == name]
    folders = {report.parent for report in reports}
    images = {
        path.name: git.capture_output("show", f"{commit}:{path}")
        for path in map(PurePosixPath, paths)
        if path.suffix == ".png" and not folders.isdisjoint(path.parents)
    }
    texts = [git.capture_output("show", f"{commit}:{report}").decode() for report in reports]
    return PipelineResults(scores, texts, images)


def _find_commit(experiment: str) -> str | None:
    commits = git.capture_output(
        "for-each-ref", "--format=%(objectname)", f"refs/exps/*/*/{experiment}"
    )
    return next(iter(commits.decode().split()), None)
