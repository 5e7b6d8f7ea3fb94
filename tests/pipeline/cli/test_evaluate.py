"""pipeline.cli.evaluate: what of an evaluation MLflow is told."""

from pathlib import Path

from pipeline.cli.evaluate import list_artifacts


def test_mlflow_is_told_results_alone(tmp_path: Path) -> None:
    """Tables and panels go there; DVC's .gitignore, and predictions by the hundred, do not."""
    for folder in ("panels", "predictions"):
        (tmp_path / folder).mkdir()
    for file in (".gitignore", "per_class.csv"):
        (tmp_path / file).touch()
    assert ["panels", "per_class.csv"] == [piece.name for piece in list_artifacts(tmp_path)]
