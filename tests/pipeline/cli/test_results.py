from pathlib import Path

import pytest

from pipeline import dvc
from pipeline.cli.results import summarize_results
from pipeline.tracking import store

METRICS = {"miou": 0.2123, "miou_low": 0.2, "miou_high": None, "protocol": "val2/official/1x1"}


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A report and one arm's metrics and pictures, as DVC would name them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(store, "database_path", lambda: tmp_path / "mlflow.db")
    (tmp_path / "mlflow.db").touch()
    (tmp_path / "data/evaluate/ce-0/panels").mkdir(parents=True)
    report = tmp_path / "ablation.md"
    report.write_text("# Ablation\n\n**The data cannot tell.**\n\n| loss |\n")
    monkeypatch.setattr(dvc, "find_output", lambda name: report)
    found = {"data/evaluate/ce-0/metrics.json": METRICS, "data/ablation/ablation.json": {}}
    monkeypatch.setattr(dvc, "load_metrics", lambda: found)
    return report


def test_the_figures_the_verdict_and_the_places_are_told(results: Path) -> None:
    """Each arm with interval and protocol, the report's sentence, and where everything lies."""
    told = summarize_results()
    assert (
        "ce-0     mIoU 21.2 %, 95 % interval over frames 20.0 to n/a  (val2/official/1x1)" in told
    )
    assert "  The data cannot tell." in told.splitlines()
    assert str(results) in told
    assert "data/evaluate/*/panels" in told
    assert "mlflow" in told


def test_what_is_not_here_is_not_named(results: Path) -> None:
    """In a fresh clone there are the figures that are in Git, and neither pictures nor runs."""
    Path("data/evaluate/ce-0/panels").rmdir()
    Path("mlflow.db").unlink()
    told = summarize_results()
    assert "Results, as they were committed: `dvc repro` makes them here" in told.splitlines()
    assert str(results) in told
    assert "panels" not in told
    assert "mlflow" not in told


def test_without_results_it_says_what_to_run(results: Path) -> None:
    """Before the first run the message is what to do."""
    results.unlink()
    with pytest.raises(ValueError, match="there are no results yet: run `dvc repro`"):
        summarize_results()
