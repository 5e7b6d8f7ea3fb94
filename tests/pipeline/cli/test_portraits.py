"""pipeline.cli.portraits: the command `explain` without pictures, and its artifacts in MLflow."""

import json
from pathlib import Path

import pytest

from pipeline.cli.portraits import run_portraits
from pipeline.stages.explain import ExplainInputs
from pipeline.tracking import client, store
from pipeline.tracking.journal import list_journals
from tests.pipeline.conftest import write_changed_params
from tests.pipeline.stages.test_explain import make_project

UNREACHABLE = "http://127.0.0.1:9"  # the discard port: nothing listens


def test_results_are_logged_in_the_run_of_the_best_arm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a server the stage ends well, and the arm's journal has its figures and walls."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", UNREACHABLE)
    monkeypatch.setattr(client, "FLUSH_TIMEOUT", 1.0)
    make_project(tmp_path)
    facts = {"loss": "dice", "seed": 0, "mlflow_run_id": "0" * 32, "run_key": "k", "data_md5": "d"}
    (tmp_path / "train" / "dice-0" / "run.json").write_text(json.dumps(facts))
    params = write_changed_params(
        tmp_path,
        ("size: [128, 256]              # rows, columns of the network", "size: [64, 96]  # rows"),
        ("seeds: [0, 1]", "seeds: [0]"),
    )
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".gitignore").touch()  # DVC writes it
    sources = [tmp_path / name for name in ("train", "evaluate", "tree", "tree", "frames.csv")]
    run_portraits(params, inputs=ExplainInputs(*sources), out=tmp_path / "out")

    [journal] = list_journals(store.journals_folder())
    assert "dice-0" == journal.header()["name"]
    assert "k" == journal.header()["key"]
    folders = [line.content["under"] for line in journal.lines() if line.kind == "files"]
    assert 7 == folders.count("explain")
    assert 1 == folders.count("explain/walls")
