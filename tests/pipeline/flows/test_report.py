"""pipeline.flows.report: the report of a retraining in Prefect."""

import base64

from prefect.states import Completed, Failed

from pipeline.dvc import PipelineResults
from pipeline.flows.mlflow_links import Link
from pipeline.flows.report import RetrainingReport, format_markdown
from pipeline.flows.tasks import StageRun

UP_TO_DATE = StageRun("download", Completed(name="Cached", message="up to date"), 0.51)
FAILED = StageRun("train@ce-0", Failed(message="train@ce-0: exit status 9\nno | memory"), 12.0)
NO_RESULTS = PipelineResults({})


def test_report_starts_with_the_verdict() -> None:
    """The verdict comes first, followed by the stages with their times."""
    text = format_markdown(RetrainingReport("everything is up to date", [UP_TO_DATE], NO_RESULTS))
    assert text.startswith("**Everything is up to date.**")
    assert "| download | up to date | 0.5 |" in text


def test_failed_stage_has_its_error_in_the_table() -> None:
    """The last line of a failed stage is a cell of the table, even if it has a pipe in it."""
    text = format_markdown(RetrainingReport("train@ce-0 failed", [FAILED], NO_RESULTS))
    assert "| train@ce-0 | failed: no / memory | 12.0 |" in text


def test_experiment_is_named_with_its_overrides() -> None:
    """The report names the experiment, its overrides and the command that applies it."""
    report = RetrainingReport(
        "ran", [], NO_RESULTS, experiment="calm-otter", overrides=["train.steps=20"]
    )
    assert "DVC experiment `calm-otter` with `train.steps=20`" in format_markdown(report)
    assert "`dvc exp apply calm-otter`" in format_markdown(report)


def test_images_are_embedded() -> None:
    """An image of the ablation's report becomes part of the page, which cannot read files."""
    results = PipelineResults({}, ["# Dice or CE\n\n![mIoU](curves.png)\n"], {"curves.png": b"PNG"})
    expected = f"![mIoU](data:image/png;base64,{base64.b64encode(b'PNG').decode()})"
    assert expected in format_markdown(RetrainingReport("ran", [], results))


def test_missing_image_is_replaced_by_its_title() -> None:
    """If the file is missing or too large, its title is in the report."""
    results = PipelineResults({}, ["![mIoU](curves.png)"])
    assert format_markdown(RetrainingReport("ran", [], results)).endswith("\n\nmIoU")


def test_runs_are_links() -> None:
    """Each arm's run in MLflow is a link."""
    link = Link("ce-0", "http://127.0.0.1:5000/#/experiments/1/runs/2")
    text = format_markdown(RetrainingReport("ran", [], NO_RESULTS, links=[link]))
    assert "[ce-0](http://127.0.0.1:5000/#/experiments/1/runs/2)" in text


def test_gate_has_one_heading() -> None:
    """The gate's report has a heading of its own; its error message gets one."""
    report = "# Gate: dice-0 is promoted\n\n**First champion.**\n"
    text = format_markdown(RetrainingReport("ran", [], NO_RESULTS, promotion=report))
    assert ["## Stages", "## Gate: dice-0 is promoted"] == headings(text)
    text = format_markdown(
        RetrainingReport("ran", [], NO_RESULTS, promotion="MLflow does not answer")
    )
    assert ["## Stages", "## Gate"] == headings(text)


def test_scores_are_in_per_cent() -> None:
    """Scores have the unit of the ablation's report and of the log; an undefined one is n/a."""
    score = {"miou": 0.2457, "miou_low": 0.2336, "miou_high": None, "protocol": "val32"}
    text = format_markdown(
        RetrainingReport("ran", [], PipelineResults({"data/evaluate/dice-0/metrics.json": score}))
    )
    assert "| dice-0 | 24.6 | 23.4 to n/a | val32 |" in text


def headings(report: str) -> list[str]:
    """The lines that are headings."""
    return [line for line in report.splitlines() if line.startswith("#")]
