"""pipeline.cli.evaluate: the artifacts of an evaluation in MLflow."""

from pathlib import Path

from pipeline.cli.evaluate import list_artifacts


def test_predictions_are_not_logged(tmp_path: Path) -> None:
    """Tables and panels are logged; DVC's .gitignore and the predictions are not."""
    for folder in ("panels", "predictions"):
        (tmp_path / folder).mkdir()
    for file in (".gitignore", "per_class.csv"):
        (tmp_path / file).touch()
    assert ["panels", "per_class.csv"] == [path.name for path in list_artifacts(tmp_path)]
