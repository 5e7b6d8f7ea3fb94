"""pipeline.flows.report: the page that a retraining leaves in Prefect."""

import base64

from prefect.states import Completed, Failed

from pipeline.dvc import PipelineResults
from pipeline.flows.mlflow_links import Link
from pipeline.flows.report import RetrainingReport, format_markdown
from pipeline.flows.tasks import StageRun

FRESH = StageRun("download", Completed(name="Cached", message="up to date"), 0.51)
FAILED = StageRun("train@ce-0", Failed(message="train@ce-0: exit status 9\nno | memory"), 12.0)
NOTHING = PipelineResults({})


def test_it_begins_with_what_happened() -> None:
    """The verdict stands first, the stages with their seconds follow."""
    text = format_markdown(RetrainingReport("everything is up to date", [FRESH], NOTHING))
    assert text.startswith("**Everything is up to date.**")
    assert "| download | up to date | 0.5 |" in text


def test_a_failure_is_told_in_its_row() -> None:
    """The last line of a failed stage fits into the table, whatever is in it."""
    text = format_markdown(RetrainingReport("train@ce-0 failed", [FAILED], NOTHING))
    assert "| train@ce-0 | failed: no / memory | 12.0 |" in text


def test_an_experiment_is_named_with_what_differs() -> None:
    """One reads how to see the experiment and how to take it over."""
    told = RetrainingReport(
        "ran", [], NOTHING, experiment="calm-otter", overrides=["train.steps=20"]
    )
    assert "DVC experiment `calm-otter` with `train.steps=20`" in format_markdown(told)
    assert "`dvc exp apply calm-otter`" in format_markdown(told)


def test_pictures_are_in_it() -> None:
    """A picture of the ablation's report becomes part of the page, which cannot read files."""
    results = PipelineResults({}, "# Dice or CE\n\n![mIoU](curves.png)\n", {"curves.png": b"PNG"})
    expected = f"![mIoU](data:image/png;base64,{base64.b64encode(b'PNG').decode()})"
    assert expected in format_markdown(RetrainingReport("ran", [], results))


def test_a_picture_that_is_not_there_is_a_word() -> None:
    """Where the file lacks, or is too large, its title stands."""
    results = PipelineResults({}, "![mIoU](curves.png)")
    assert format_markdown(RetrainingReport("ran", [], results)).endswith("\n\nmIoU")


def test_links_lead_to_the_runs() -> None:
    """Each arm's run in MLflow is a link."""
    link = Link("ce-0", "http://127.0.0.1:5000/#/experiments/1/runs/2")
    text = format_markdown(RetrainingReport("ran", [], NOTHING, links=[link]))
    assert "[ce-0](http://127.0.0.1:5000/#/experiments/1/runs/2)" in text


def test_the_gate_is_headed_once() -> None:
    """Its report brings a head of its own; where it failed, what it said gets one."""
    report = "# Gate: dice-0 is promoted\n\n**First champion.**\n"
    told = format_markdown(RetrainingReport("ran", [], NOTHING, promotion=report))
    assert ["## Stages", "## Gate: dice-0 is promoted"] == heads(told)
    told = format_markdown(RetrainingReport("ran", [], NOTHING, promotion="MLflow does not answer"))
    assert ["## Stages", "## The gate"] == heads(told)


def test_scores_are_in_per_cent() -> None:
    """As in the ablation's report below them, and in the log; what is undefined is a dash."""
    score = {"miou": 0.2457, "miou_low": 0.2336, "miou_high": None, "protocol": "val32"}
    text = format_markdown(
        RetrainingReport("ran", [], PipelineResults({"data/evaluate/dice-0/metrics.json": score}))
    )
    assert "| dice-0 | 24.6 | 23.4 to - | val32 |" in text


def heads(report: str) -> list[str]:
    """The lines that are heads."""
    return [line for line in report.splitlines() if line.startswith("#")]
