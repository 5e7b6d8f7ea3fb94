"""What a retraining came to, as artifacts: a report with pictures, the scores, links to runs."""

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
from pipeline.formatting import format_percent
from pipeline.tracking import store

REPORT_KEY = "retrain-report"
_SCORES_KEY = "retrain-scores"
_RUNS_KEY = "retrain-runs"
_MAX_IMAGE_BYTES = 300_000  # bytes of a picture; the report is a row of Prefect's database


@dataclass(frozen=True)
class RetrainingReport:
    """What a report tells.

    Attributes:
        verdict: in a sentence.
        runs: what became of each stage.
        results: what there is now.
        experiment: the name of the DVC experiment, if it was one.
        overrides: parameters that it has otherwise than params.yaml.
        promotion: what the gate said, if it was asked.
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
    """Make the artifacts; scores and links only where there is something to say."""
    create_markdown_artifact(
        format_markdown(report),
        key=REPORT_KEY,
        description="What ran, what was up to date, and what came out",
    )
    if rows := _score_rows(report.results):
        create_table_artifact(
            rows, key=_SCORES_KEY, description="The arms on the validation frames"
        )
    if report.links:
        pages = "\n".join(f"- {_format_link(link)}" for link in report.links)
        create_markdown_artifact(pages, key=_RUNS_KEY, description="The runs in MLflow")


def format_markdown(report: RetrainingReport) -> str:
    """Write the report in Markdown: the stages, the scores, the gate, the ablation."""
    parts = [f"**{_capitalize(report.verdict)}.**"]
    if report.experiment:
        parts.append(_describe_experiment(report.experiment, report.overrides))
    rows = [[run.stage, run.summary, f"{run.seconds:.1f}"] for run in report.runs]
    parts += ["## Stages", _format_table(["stage", "state", "seconds"], rows)]
    if scores := _score_rows(report.results):
        values = [list(map(str, row.values())) for row in scores]
        parts += ["## Scores", _format_table(list(scores[0]), values)]
    parts.append(_describe_runs(report.links))
    if report.promotion:
        head = [] if report.promotion.startswith("#") else ["## The gate"]
        parts += [*head, _demote_headings(report.promotion)]
    if report.results.report:
        parts.append(_embed_images(_demote_headings(report.results.report), report.results.images))
    return "\n\n".join(parts)


def _capitalize(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def _describe_experiment(name: str, overrides: Iterable[str]) -> str:
    shown = ", ".join(f"`{setting}`" for setting in overrides)
    return (
        f"DVC experiment `{name}` with {shown}. The workspace is as it was:"
        f" `dvc exp show` compares, `dvc exp apply {name}` takes it over."
    )


def _describe_runs(links: Sequence[Link]) -> str:
    if not links:
        return f"The runs in MLflow: `{store.view_instructions()}`"
    return f"The runs in MLflow: {', '.join(map(_format_link, links))}"


def _format_link(link: Link) -> str:
    return f"[{link.text}]({link.url})"


def _score_rows(results: PipelineResults) -> list[dict[str, Any]]:
    return [
        {
            "arm": PurePosixPath(path).parent.name,
            "mIoU in per cent": _format_percent(values["miou"]),
            "95 % interval": " to ".join(
                _format_percent(values.get(end)) for end in ("miou_low", "miou_high")
            ),
            "protocol": values.get("protocol", ""),
        }
        for path, values in sorted(results.scores.items())
        if "miou" in values
    ]


def _format_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def _demote_headings(report: str) -> str:
    """The report a level below the page's own heads."""
    return re.sub(r"^#", "##", report, flags=re.MULTILINE)


def _embed_images(report: str, images: dict[str, bytes]) -> str:
    """The report with its pictures in it: Prefect's page cannot reach the files."""

    def picture(found: re.Match[str]) -> str:
        data = images.get(Path(found["name"]).name, b"")
        if not data or len(data) > _MAX_IMAGE_BYTES:
            return found["text"]
        return f"![{found['text']}](data:image/png;base64,{base64.b64encode(data).decode()})"

    return re.sub(r"!\[(?P<text>[^]]*)\]\((?P<name>[^):]+\.png)\)", picture, report)


def _format_percent(value: float | None) -> str:
    """Format a score; one that is undefined (say, no class occurs) is a dash."""
    return "-" if value is None else format_percent(value)
