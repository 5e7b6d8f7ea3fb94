"""The results of a retraining as Prefect artifacts: a report with figures, scores, run links."""

import base64
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from pipeline.dvc import PipelineResults
from pipeline.flows.mlflow_links import Link
from pipeline.flows.tasks import StageRun
from pipeline.formatting import NOT_AVAILABLE, format_markdown_table, format_percent
from pipeline.tracking import store

REPORT_KEY = "retrain-report"
_SCORES_KEY = "retrain-scores"
_RUNS_KEY = "retrain-runs"
_MAX_IMAGE_BYTES = 1_000_000  # per image; the report is a row of Prefect's database


@dataclass(frozen=True)
class RetrainingReport:
    """The content of a report.

    Attributes:
        verdict: the result in a sentence.
        runs: the state of each stage.
        results: the current results of the pipeline.
        experiment: the name of the DVC experiment, if it was one.
        overrides: parameters of the experiment that differ from params.yaml.
        promotion: the gate's report or its error, if a model was to be promoted.
        links: to the runs in MLflow.
    """

    verdict: str
    runs: Sequence[StageRun]
    results: PipelineResults
    experiment: str | None = None
    overrides: Sequence[str] = ()
    promotion: str = ""
    links: Sequence[Link] = field(default_factory=list)


def publish(report: RetrainingReport) -> None:
    """Create the artifacts; those of scores and links only if there are any."""
    create_markdown_artifact(
        format_markdown(report),
        key=REPORT_KEY,
        description="The stages, the scores, the gate, the ablation and the attention heads",
    )
    if rows := _score_rows(report.results):
        create_table_artifact(
            rows, key=_SCORES_KEY, description="The scores of the arms on the validation frames"
        )
    if report.links:
        runs = "\n".join(f"- {_format_link(link)}" for link in report.links)
        create_markdown_artifact(runs, key=_RUNS_KEY, description="The runs in MLflow")


def format_markdown(report: RetrainingReport) -> str:
    """Compose the report in Markdown: stages, scores, gate, ablation, attention heads."""
    parts = [f"**{_capitalize(report.verdict)}.**"]
    if report.experiment:
        parts.append(_describe_experiment(report.experiment, report.overrides))
    rows = [[run.stage, run.summary, f"{run.seconds:.1f}"] for run in report.runs]
    parts += ["## Stages", _format_table(["stage", "state", "time (s)"], rows)]
    if scores := _score_rows(report.results):
        values = [list(map(str, row.values())) for row in scores]
        parts += ["## Scores", _format_table(list(scores[0]), values)]
    parts.append(_describe_runs(report.links))
    if report.promotion:
        heading = [] if report.promotion.startswith("#") else ["## Gate"]
        parts += [*heading, _demote_headings(report.promotion)]
    parts += [
        _embed_images(_demote_headings(text), report.results.images)
        for text in report.results.reports
    ]
    return "\n\n".join(parts)


def _capitalize(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def _describe_experiment(name: str, overrides: Iterable[str]) -> str:
    settings = ", ".join(f"`{setting}`" for setting in overrides)
    return (
        f"DVC experiment `{name}` with {settings}. The workspace is unchanged: `dvc exp show`"
        f" compares the experiment with it, `dvc exp apply {name}` applies the experiment to it."
    )


def _describe_runs(links: Sequence[Link]) -> str:
    if not links:
        return f"Runs in MLflow: `{store.view_instructions()}`"
    return f"Runs in MLflow: {', '.join(map(_format_link, links))}"


def _format_link(link: Link) -> str:
    return f"[{link.text}]({link.url})"


def _score_rows(results: PipelineResults) -> list[dict[str, Any]]:
    return [
        {
            "arm": PurePosixPath(path).parent.name,
            "mIoU (%)": _format_percent(values["miou"]),
            "95 % interval": " to ".join(
                _format_percent(values.get(end)) for end in ("miou_low", "miou_high")
            ),
            "protocol": values.get("protocol", ""),
        }
        for path, values in sorted(results.scores.items())
        if "miou" in values
    ]


def _format_table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a table; a pipe in a cell would end the cell, so it becomes a slash."""
    return format_markdown_table(
        headers, [[cell.replace("|", "/") for cell in row] for row in rows]
    )


def _demote_headings(report: str) -> str:
    """Move the report's headings one level below the page's own."""
    return re.sub(r"^#", "##", report, flags=re.MULTILINE)


def _embed_images(report: str, images: dict[str, bytes]) -> str:
    """Embed the images in the report: Prefect's page cannot reach the files."""

    def embed(match: re.Match[str]) -> str:
        data = images.get(Path(match["name"]).name, b"")
        if not data or len(data) > _MAX_IMAGE_BYTES:
            return match["text"]
        return f"![{match['text']}](data:image/png;base64,{base64.b64encode(data).decode()})"

    return re.sub(r"!\[(?P<text>[^]]*)\]\((?P<name>[^):]+\.png)\)", embed, report)


def _format_percent(value: float | None) -> str:
    """Format a score; an undefined one (no class occurs, for example) is NOT_AVAILABLE."""
    return NOT_AVAILABLE if value is None else format_percent(value)
