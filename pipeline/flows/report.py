"""What a retraining came to, as artifacts: a report with pictures, the scores, links to runs."""

import base64
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from pipeline import store
from pipeline.flows.links import Link
from pipeline.flows.stage_runs import StageRun
from pipeline.repro import Results
from pipeline.wording import percent

KEY = "retrain-report"
_SCORES = "retrain-scores"
_RUNS = "retrain-runs"
_LARGEST = 300_000  # bytes of a picture; the report is a row of Prefect's database


@dataclass(frozen=True)
class Retraining:
    """What a report tells.

    Attributes:
        verdict: in a sentence.
        runs: what became of each stage.
        results: what there is now.
        experiment: the name of the DVC experiment, if it was one.
        settings: parameters that it has otherwise than params.yaml.
        promotion: what the gate said, if it was asked.
        links: to the runs in MLflow.
    """

    verdict: str
    runs: Sequence[StageRun]
    results: Results
    experiment: str | None = None
    settings: Sequence[str] = ()
    promotion: str = ""
    links: Sequence[Link] = field(default_factory=list)


def publish(told: Retraining) -> None:
    """Make the artifacts; scores and links only where there is something to say."""
    create_markdown_artifact(
        markdown(told), key=KEY, description="What ran, what was up to date, and what came out"
    )
    if rows := _scores(told.results):
        create_table_artifact(rows, key=_SCORES, description="The arms on the validation frames")
    if told.links:
        pages = "\n".join(f"- {_shown(link)}" for link in told.links)
        create_markdown_artifact(pages, key=_RUNS, description="The runs in MLflow")


def markdown(told: Retraining) -> str:
    """Write the report in Markdown: the stages, the scores, the gate, the ablation."""
    parts = [f"**{_capital(told.verdict)}.**"]
    if told.experiment:
        parts.append(_on_experiment(told.experiment, told.settings))
    rows = [[run.stage, run.summary, f"{run.seconds:.1f}"] for run in told.runs]
    parts += ["## Stages", _table(["stage", "state", "seconds"], rows)]
    if scores := _scores(told.results):
        values = [list(map(str, row.values())) for row in scores]
        parts += ["## Scores", _table(list(scores[0]), values)]
    parts.append(_on_runs(told.links))
    if told.promotion:
        head = [] if told.promotion.startswith("#") else ["## The gate"]
        parts += [*head, _lower(told.promotion)]
    if told.results.report:
        parts.append(_with_pictures(_lower(told.results.report), told.results.pictures))
    return "\n\n".join(parts)


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def _on_experiment(name: str, settings: Iterable[str]) -> str:
    shown = ", ".join(f"`{setting}`" for setting in settings)
    return (
        f"DVC experiment `{name}` with {shown}. The workspace is as it was:"
        f" `dvc exp show` compares, `dvc exp apply {name}` takes it over."
    )


def _on_runs(links: Sequence[Link]) -> str:
    if not links:
        return f"The runs in MLflow: `{store.where_to_look()}`"
    return f"The runs in MLflow: {', '.join(map(_shown, links))}"


def _shown(link: Link) -> str:
    return f"[{link.text}]({link.address})"


def _scores(results: Results) -> list[dict[str, Any]]:
    return [
        {
            "arm": PurePosixPath(path).parent.name,
            "mIoU in per cent": _percent(values["miou"]),
            "95 % interval": " to ".join(
                _percent(values.get(end)) for end in ("miou_low", "miou_high")
            ),
            "protocol": values.get("protocol", ""),
        }
        for path, values in sorted(results.scores.items())
        if "miou" in values
    ]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def _lower(report: str) -> str:
    """The report a level below the page's own heads."""
    return re.sub(r"^#", "##", report, flags=re.MULTILINE)


def _with_pictures(report: str, pictures: dict[str, bytes]) -> str:
    """The report with its pictures in it: Prefect's page cannot reach the files."""

    def picture(found: re.Match[str]) -> str:
        data = pictures.get(Path(found["name"]).name, b"")
        if not data or len(data) > _LARGEST:
            return found["text"]
        return f"![{found['text']}](data:image/png;base64,{base64.b64encode(data).decode()})"

    return re.sub(r"!\[(?P<text>[^]]*)\]\((?P<name>[^):]+\.png)\)", picture, report)


def _percent(value: float | None) -> str:
    """Format a score; one that is undefined (say, no class occurs) is a dash."""
    return "-" if value is None else percent(value)
