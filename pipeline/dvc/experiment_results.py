"""What the graph came to, in the workspace or in an experiment, as it is read for a report."""

import json
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from pipeline import git
from pipeline.dvc.queries import find_output, load_metrics

_REPORT = "ablation.md"


@dataclass(frozen=True)
class PipelineResults:
    """Scores and the ablation's report, wherever they lie.

    Attributes:
        scores: metrics by the path of their file.
        report: of the ablation, in Markdown; empty if there is none.
        images: PNG files that the report shows, by the name that it gives them.
    """

    scores: dict[str, dict[str, Any]]
    report: str = ""
    images: dict[str, bytes] = field(default_factory=dict)


def load_results(experiment: str | None = None) -> PipelineResults:
    """Read what is there now: in the workspace, or in the DVC experiment of that name."""
    if experiment is None:
        path = find_output(_REPORT)
        if path is None or not path.is_file():
            return PipelineResults(load_metrics())
        pictures = {picture.name: picture.read_bytes() for picture in path.parent.glob("*.png")}
        return PipelineResults(load_metrics(), path.read_text(encoding="utf-8"), pictures)
    commit = _find_commit(experiment)
    if commit is None:
        return PipelineResults({})
    return _read_commit(commit)


def _read_commit(commit: str) -> PipelineResults:
    """DVC keeps an experiment as a commit, and in it whatever is in Git and not in its cache."""
    paths = git.capture_output("ls-tree", "-r", "--name-only", commit).decode().splitlines()
    scores = {
        path: json.loads(git.capture_output("show", f"{commit}:{path}"))
        for path in paths
        if PurePosixPath(path).name == "metrics.json"
    }
    reports = [PurePosixPath(path) for path in paths if PurePosixPath(path).name == _REPORT]
    if not reports:
        return PipelineResults(scores)
    pictures = {
        picture.name: git.capture_output("show", f"{commit}:{picture}")
        for picture in map(PurePosixPath, paths)
        if picture.parent == reports[0].parent and picture.suffix == ".png"
    }
    return PipelineResults(
        scores, git.capture_output("show", f"{commit}:{reports[0]}").decode(), pictures
    )


def _find_commit(experiment: str) -> str | None:
    known = git.capture_output(
        "for-each-ref", "--format=%(objectname)", f"refs/exps/*/*/{experiment}"
    )
    return next(iter(known.decode().split()), None)
