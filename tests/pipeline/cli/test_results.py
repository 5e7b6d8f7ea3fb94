from pathlib import Path

import pytest

from pipeline import dvc
from pipeline.cli.results import summarize_results
from pipeline.tracking import store

METRICS = {"miou": 0.2123, "miou_low": 0.2, "miou_high": None, "protocol": "val2/official/1x1"}


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A report, and the metrics and panels of one arm."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(store, "database_path", lambda: tmp_path / "mlflow.db")
    (tmp_path / "mlflow.db").touch()
    (tmp_path / "data/evaluate/ce-0/panels").mkdir(parents=True)
    report = tmp_path / "ablation.md"
    report.write_text("# Ablation\n\n**Inconclusive: the 95 % interval contains 0.**\n\n| loss |\n")
    monkeypatch.setattr(dvc, "find_output", lambda name: report)
    metrics = {"data/evaluate/ce-0/metrics.json": METRICS, "data/ablation/ablation.json": {}}
    monkeypatch.setattr(dvc, "load_metrics", lambda: metrics)
    return report


def test_summary_has_scores_verdict_and_paths(results: Path) -> None:
    """The summary has each arm's mIoU with interval and protocol, the verdict, and the paths."""
    summary = summarize_results()
    arm = "ce-0     mIoU 21.2 %, 95 % interval over frames 20.0 to n/a  (val2/official/1x1)"
    assert arm in summary
    assert "  Inconclusive: the 95 % interval contains 0." in summary.splitlines()
    assert str(results) in summary
    assert "data/evaluate/*/panels" in summary
    assert "mlflow" in summary


def test_missing_files_are_not_listed(results: Path) -> None:
    """In a fresh clone the summary has the scores in Git, but neither panels nor runs."""
    Path("data/evaluate/ce-0/panels").rmdir()
    Path("mlflow.db").unlink()
    summary = summarize_results()
    assert "Results from Git (`dvc repro` computes them here)" in summary.splitlines()
    assert str(results) in summary
    assert "panels" not in summary
    assert "mlflow" not in summary


def test_without_results_the_error_has_the_command(results: Path) -> None:
    """Before the first run the error says which command to run."""
    results.unlink()
    with pytest.raises(ValueError, match="no results yet: run `dvc repro`"):
        summarize_results()
