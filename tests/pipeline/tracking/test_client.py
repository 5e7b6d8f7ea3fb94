import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from pipeline.cli import reproduce
from pipeline.cli.stages import app
from pipeline.serving.load import load_model
from pipeline.tracking import client as tracking_client
from pipeline.tracking import journal, provenance, search, store, sync, ui
from pipeline.tracking.journal import Journal
from pipeline.tracking.origin import fetch_origin
from pipeline.tracking.sync import sync_journals
from segformer import segmenter
from segformer.data.packed_frames import create
from segformer.inference.predictor import Predictor
from segformer.inference.settings import InferenceSettings
from segformer.losses import LOSSES
from segformer.model.segformer import SegFormer
from segformer.training.state import StepRecord
from segformer.weights import checkpoint
from tests.pipeline.conftest import write_changed_params

# Imported from tracking, which disables MLflow's telemetry before it imports MLflow.
MlflowClient = tracking_client.MlflowClient
IMAGE = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
SETTING_VARIABLES = ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID")
UNREACHABLE = "http://127.0.0.1:9"  # the discard port: nothing listens
PROVENANCE_VARIABLES = ("DVC_ROOT", "DVC_STAGE", "DVC_EXP_NAME", "PREFECT_FLOW_RUN_ID")


@pytest.fixture(scope="session")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a project's first run, which creates the database, and what it printed.

    The tests start from copies of that database, because creating one takes seconds.
    """
    folder = tmp_path_factory.mktemp("first")
    program = """
from pipeline.tracking import client
with client.start_training_run("first", params={"a": 1}, tags={}) as run:
    assert run.id
from mlflow.telemetry.client import get_telemetry_client
assert get_telemetry_client() is None
"""
    process = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env={
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": str(Path(tracking_client.__file__).parents[2]),
            "MLFLOW_EXPERIMENT_NAME": "first",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return folder, process.stdout


@pytest.fixture
def client(
    tmp_path: Path, first_run: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> MlflowClient:
    """A client of the embedded store of an empty project; the test runs in the project's folder."""
    for name in (*SETTING_VARIABLES, *PROVENANCE_VARIABLES):
        # Set and deleted, so that monkeypatch undoes what the test or MLflow sets.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    # Loading a model adds its code to the path.
    monkeypatch.setattr(sys, "path", sys.path[:])
    shutil.copy(first_run[0] / "mlflow.db", tmp_path)
    monkeypatch.chdir(tmp_path)
    return MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model with random weights."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "ce-0"
    checkpoint.save(SegFormer("b0"), folder)
    return folder


def runs_by_name(client: MlflowClient) -> dict[str, Any]:
    """All runs of the project's experiment by name."""
    experiment = client.get_experiment_by_name(store.DEFAULT_EXPERIMENT)
    assert experiment is not None
    return {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}


def train(name: str = "ce-0", steps: int = 3) -> str | None:
    """Record a short training without a network; return the run's id."""
    params = {"train.steps": steps, "pack.size": (128, 256)}
    with tracking_client.start_training_run(
        name, params=params, tags={"loss": name[:-2], "seed": 0}
    ) as run:
        for step in range(1, steps + 1):
            run.report(
                StepRecord(step, steps, 1 / step, 6e-5, 10.0, 0.4 if step == steps else None)
            )
    return run.id


def test_training_is_one_run(client: MlflowClient) -> None:
    """A run has the arm's name, its parameters, every record by step, and ends FINISHED."""
    run_id = train()
    run = runs_by_name(client)["ce-0"]
    assert run_id == run.info.run_id
    assert run.info.status == "FINISHED"
    assert {"train.steps": "3", "pack.size": "(128, 256)"} == run.data.params
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert [(1, 1.0), (2, 0.5), (3, 1 / 3)] == [(point.step, point.value) for point in history]
    validated = client.get_metric_history(run.info.run_id, "val/miou")
    assert [(3, 0.4)] == [(point.step, point.value) for point in validated]
    assert {"train/learning_rate": 6e-5, "train/images_per_second": 10.0}.items() <= (
        run.data.metrics.items()
    )


def test_resolve_run_by_id_prefix_and_name(client: MlflowClient) -> None:
    """Its id, the first eight characters of it and its name refer to the same run."""
    train()
    run_id = train("dice-0")
    assert run_id
    resolved = {
        search.resolve_run(client, reference, None).info.run_id
        for reference in (run_id, run_id[:8], "dice-0")
    }
    assert {run_id} == resolved


def test_missing_run_is_not_reproduced(client: MlflowClient) -> None:
    """The error names the run, and does not say that MLflow failed."""
    with pytest.raises(ValueError, match="MLflow has no finished training 'focal-0'"):
        list(reproduce.reproduce_run("focal-0", None))


def test_origin_of_an_arm_is_its_newest_finished_training(
    client: MlflowClient, tmp_path: Path
) -> None:
    """Reproductions and killed trainings are skipped; a scoring run refers to its training."""
    with tracking_client.start_training_run("ce-0", {}, {provenance.MODEL_SHA256: "1"}) as run:
        run.log_artifacts(write_changed_params(tmp_path), artifact_path="source")
    for tags in ({provenance.MODEL_SHA256: "1", provenance.REPRODUCES: run.id}, {}):
        with tracking_client.start_training_run("ce-0", {}, tags):
            pass
    with tracking_client.start_training_run(
        "elsewhere", {}, {provenance.EVALUATES: run.key}
    ) as scored:
        pass
    for reference in ("ce-0", scored.id):
        assert reference
        assert run.id == fetch_origin(reference, tmp_path).run_id


def test_reproduce_without_a_database(client: MlflowClient, tmp_path: Path) -> None:
    """Without a database the error says so, and the query creates none."""
    (tmp_path / "mlflow.db").unlink()
    with pytest.raises(ValueError, match=r"mlflow\.db is missing"):
        list(reproduce.reproduce_run("focal-0", None))
    assert not (tmp_path / "mlflow.db").exists()


def test_experiment_adds_nothing_to_a_run_of_the_workspace(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch, model: Path
) -> None:
    """A model that it scores but did not train gets a run of its own, a child of its ablation."""
    facts = {"mlflow_run_id": train(), "run_key": "a-key"}
    monkeypatch.setenv("DVC_EXP_NAME", "half-size")
    for miou in (0.3, 0.4):  # a second execution of the stage creates no second run
        with tracking_client.resume_run(facts, "ce-0", {"loss": "ce"}) as run:
            run.log_evaluation({"miou": miou}, {}, "val2/official/64x128/whole/ss/last")
    parent = tracking_client.log_ablation_run("ablation", [facts], {"difference": 0.1}, model)
    assert 3 == len(client.search_runs([client.get_run(run.id).info.experiment_id]))
    workspace, own = client.get_run(facts["mlflow_run_id"]).data, client.get_run(run.id).data
    assert "eval/miou" not in workspace.metrics
    assert not {"protocol", "mlflow.parentRunId"} & set(workspace.tags)
    assert 0.4 == own.metrics["eval/miou"]
    expected = {
        "dvc.exp": "half-size",
        "evaluates": "a-key",
        "mlflow.parentRunId": parent,
    }
    assert expected.items() <= own.tags.items()


def test_ablation_of_an_experiment_compares_the_workspaces_arms(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch, model: Path
) -> None:
    """An ablation that adds an arm lists all arms, and changes the parent of its own only."""
    workspace = {"mlflow_run_id": train(), "run_key": "a-key"}
    monkeypatch.setenv("DVC_EXP_NAME", "another-seed")
    added = {"mlflow_run_id": train("ce-1"), "experiment": "another-seed"}
    parent = tracking_client.log_ablation_run(
        "ablation", [workspace, added], {"difference": 0.1}, model
    )
    arm_tags = [client.get_run(arm["mlflow_run_id"]).data.tags for arm in (workspace, added)]
    assert [None, parent] == [tags.get("mlflow.parentRunId") for tags in arm_tags]
    expected = f"{workspace['mlflow_run_id']},{added['mlflow_run_id']}"
    assert expected == client.get_run(str(parent)).data.tags["ablation.arms"]


def test_experiment_name_with_a_quotation_mark(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its run is found again, although a quotation mark ends the text of an MLflow filter."""
    facts = {"mlflow_run_id": train(), "run_key": "a-key"}
    monkeypatch.setenv("DVC_EXP_NAME", "it's")
    ids = []
    for _ in range(2):
        with tracking_client.resume_run(facts, "ce-0") as run:
            pass
        ids.append(run.id)
    assert None is not ids[0] == ids[1]


def test_experiment_adds_to_its_own_training(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training and evaluation of an experiment are one run."""
    monkeypatch.setenv("DVC_EXP_NAME", "half-size")
    facts = {"mlflow_run_id": train(), "experiment": "half-size"}
    with tracking_client.resume_run(facts, "ce-0") as run:
        run.log_metrics({"eval/miou": 0.4})
    assert facts["mlflow_run_id"] == run.id


def test_more_parameters_than_one_call_accepts(client: MlflowClient) -> None:
    """All of 250 parameters are logged, although MLflow accepts 100 in one call."""
    params = {f"section.number_{i}": i for i in range(250)}
    with tracking_client.start_training_run("ce-0", params=params, tags={}):
        pass
    assert {name: str(value) for name, value in params.items()} == runs_by_name(client)[
        "ce-0"
    ].data.params


def test_provenance_of_a_run(client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tags name stage, experiment and flow, the dataset DVC's md5, the description the command."""
    monkeypatch.setenv("DVC_STAGE", "train@ce-0")
    monkeypatch.setenv("DVC_EXP_NAME", "lofty-ibex")
    monkeypatch.setenv("PREFECT_FLOW_RUN_ID", "6b3b0c6e")
    tags = {"loss": "ce", "seed": 0, "data.md5": "d41d8cd98f00b204e9800998ecf8427e.dir"}
    with tracking_client.start_training_run("ce-0", params={}, tags=tags) as run:
        run.log_dataset(Path("data/pack"), "d41d8cd98f00b204e9800998ecf8427e.dir")
    logged = runs_by_name(client)["ce-0"]
    assert {
        "dvc.stage": "train@ce-0",
        "dvc.exp": "lofty-ibex",
        "prefect.flow_run_id": "6b3b0c6e",
        "loss": "ce",
        "seed": "0",
        "data.md5": "d41d8cd98f00b204e9800998ecf8427e.dir",
    }.items() <= logged.data.tags.items()
    assert "dvc repro train@ce-0" in logged.data.tags["mlflow.note.content"]
    [dataset_input] = logged.inputs.dataset_inputs
    assert dataset_input.dataset.name == "data/pack"
    assert dataset_input.dataset.digest == "d41d8cd98f00b204e9800998ecf8427e.dir"


def test_exception_fails_the_run(client: MlflowClient) -> None:
    """A training that raises ends FAILED, keeps its records, and the exception is re-raised."""

    def fail() -> None:
        with tracking_client.start_training_run("ce-0", params={}, tags={}) as run:
            run.report(StepRecord(1, 3, 0.5, 6e-5, 10.0, None))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert runs_by_name(client)["ce-0"].info.status == "FAILED"
    assert runs_by_name(client)["ce-0"].data.metrics["train/loss"] == 0.5


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_interrupted_run_is_killed(client: MlflowClient, stop: type[BaseException]) -> None:
    """Ctrl-C and SIGTERM, which becomes SystemExit, end the run KILLED."""
    with pytest.raises(stop), tracking_client.start_training_run("ce-0", params={}, tags={}):
        raise stop
    assert runs_by_name(client)["ce-0"].info.status == "KILLED"


def test_evaluation_is_added_to_the_trainings_run(client: MlflowClient, tmp_path: Path) -> None:
    """Scores, protocol, tables and plots of an evaluation are in the run of the training."""
    run_id = train()
    (tmp_path / "scores/panels").mkdir(parents=True)
    (tmp_path / "scores/per_class.csv").write_text("class,iou\n")
    (tmp_path / "scores/panels/0.png").write_bytes(b"png")
    with tracking_client.resume_run({"mlflow_run_id": run_id}, name="ce-0") as run:
        run.log_evaluation(
            {"miou": 0.5, "undefined": None},
            {"road": 0.9, "traffic light": 0.1, "train": float("nan")},
            "val8/official/128x256/whole/ss/last",
        )
        run.log_artifacts(tmp_path / "scores", artifact_path="evaluate")
        run.log_artifacts(tmp_path / "scores/per_class.csv", artifact_path="train")
    assert ["ce-0"] == list(runs_by_name(client))
    logged = runs_by_name(client)["ce-0"]
    assert logged.info.status == "FINISHED"
    scores = {name: x for name, x in logged.data.metrics.items() if name.startswith("eval/")}
    assert {"eval/miou": 0.5, "eval/iou/road": 0.9, "eval/iou/traffic light": 0.1} == scores
    assert logged.data.tags["protocol"] == "val8/official/128x256/whole/ss/last"
    stored = tmp_path / "mlartifacts" / str(run_id) / "artifacts"
    assert [
        "evaluate/panels/0.png",
        "evaluate/per_class.csv",
        "train/per_class.csv",
    ] == sorted(path.relative_to(stored).as_posix() for path in stored.rglob("*.*"))


def test_evaluation_keeps_the_trainings_duration(client: MlflowClient) -> None:
    """A later evaluation, even one that is interrupted, leaves the run's end and status."""
    run_id = train()
    end_time = client.get_run(str(run_id)).info.end_time
    with tracking_client.resume_run({"mlflow_run_id": run_id}, name="ce-0"):
        time.sleep(0.01)
        assert "RUNNING" == client.get_run(str(run_id)).info.status
    with suppress(SystemExit), tracking_client.resume_run({"mlflow_run_id": run_id}, name="ce-0"):
        sys.exit()
    assert (end_time, "FINISHED") == (
        client.get_run(str(run_id)).info.end_time,
        client.get_run(str(run_id)).info.status,
    )


def test_arm_colors_are_distinct(client: MlflowClient) -> None:
    """In MLflow's charts each loss has a color and each seed a tint of it."""
    colors = {
        ui.arm_color_tags({"loss": loss, "seed": str(seed)})["mlflow.runColor"]
        for loss in LOSSES
        for seed in range(3)
    }
    assert 3 * len(LOSSES) == len(colors)
    with tracking_client.start_training_run("dice-0", {}, {"loss": "dice", "seed": 0}):
        pass
    assert "#D55E00" == runs_by_name(client)["dice-0"].data.tags["mlflow.runColor"]
    assert {} == ui.arm_color_tags({"dvc.stage": "ablation"})


def test_training_logs_class_frequencies(client: MlflowClient, tmp_path: Path) -> None:
    """The run of the train command has the tables and plot of `frequency`, in the folder `data`."""
    random = np.random.default_rng(0)
    for split in ("train", "val"):
        with create(tmp_path / "pack" / split, [split], (32, 32)) as (images, labels):
            images[:], labels[:] = random.integers(0, 19, images.shape), 0
    tables = {"class_frequency.csv": "class,share\nroad,1\n", "class_frequency.png": "a picture"}
    (tmp_path / "frequency").mkdir()
    for name, content in tables.items():
        (tmp_path / "frequency" / name).write_text(content)
    (tmp_path / "weights").mkdir()
    changes = [
        ("steps: 120", "steps: 1"),
        ("warmup_steps: 10", "warmup_steps: 0"),
        ("batch_size: 8", "batch_size: 1"),
        ("crop: [128, 256]", "crop: [32, 32]"),
    ]
    params = write_changed_params(tmp_path, *changes)
    folders = {
        "--work": "work",
        "--pack": "pack",
        "--frequency": "frequency",
        "--weights": "weights",
        "--out": "ce-0",
    }
    options = [text for flag, name in folders.items() for text in (flag, str(tmp_path / name))]
    result = CliRunner().invoke(
        app, ["train", *options, "--loss", "ce", "--seed", "0", "--params", str(params)]
    )
    assert 0 == result.exit_code, result.output
    run_id = runs_by_name(client)["ce-0"].info.run_id
    stored = tmp_path / "mlartifacts" / run_id / "artifacts" / "data"
    assert tables == {path.name: path.read_text() for path in stored.iterdir()}
    assert (stored.parent / "train" / "history.csv").exists()


def test_lost_run_is_restored_once(client: MlflowClient, tmp_path: Path) -> None:
    """An id that the store has lost creates one run; later evaluations and ablations use it."""
    for miou in (0.4, 0.5):
        with tracking_client.resume_run({"mlflow_run_id": "0" * 32}, name="ce-0") as run:
            run.log_evaluation({"miou": miou}, {}, "p")
    tracking_client.log_ablation_run("ablation", [{"mlflow_run_id": "0" * 32}], {}, tmp_path)
    assert {"ce-0-restored", "ablation"} == set(runs_by_name(client))
    restored = runs_by_name(client)["ce-0-restored"]
    assert restored.data.metrics == {"eval/miou": 0.5}
    assert restored.data.tags["restored_from"] == "0" * 32
    assert restored.data.tags["mlflow.parentRunId"] == runs_by_name(client)["ablation"].info.run_id


def test_deleted_run_is_restored_as_a_new_one(client: MlflowClient) -> None:
    """Nothing is added to a deleted run."""
    run_id = train()
    client.delete_run(str(run_id))
    with tracking_client.resume_run({"mlflow_run_id": run_id}, name="ce-0") as run:
        pass
    assert {"ce-0-restored"} == set(runs_by_name(client))
    assert run.id != run_id


def test_ablation_is_the_parent_of_its_arms(client: MlflowClient, tmp_path: Path) -> None:
    """The arms are the children of the latest ablation; an earlier one still lists them.

    An ablation has the protocol of its arms, and its verdict in the description.
    """
    arms = [train("ce-0"), train("dice-0")]
    facts = [{"mlflow_run_id": arm} for arm in [*arms, None]]
    (tmp_path / "report").mkdir()
    (tmp_path / "report/ablation.md").write_text("# CE wins\n")
    first = tracking_client.log_ablation_run(
        "first", facts, {"difference": 0.01}, tmp_path / "report"
    )
    tags = {"protocol": "p", "verdict": "CE wins by 2 points."}
    second = tracking_client.log_ablation_run(
        "second", facts, {"difference": 0.02}, tmp_path / "report", tags
    )
    runs = runs_by_name(client)
    assert {second} == {runs[arm].data.tags["mlflow.parentRunId"] for arm in ("ce-0", "dice-0")}
    assert "p" == runs["second"].data.tags["protocol"]
    assert "CE wins by 2 points." in runs["second"].data.tags["mlflow.note.content"]
    for run_id, difference in ((first, 0.01), (second, 0.02)):
        run = client.get_run(str(run_id))
        assert run.info.status == "FINISHED"
        assert run.data.tags["ablation.arms"] == f"{arms[0]},{arms[1]}"
        assert run.data.metrics == {"difference": difference}
        [artifact] = client.list_artifacts(str(run_id), "ablation")
        assert artifact.path == "ablation/ablation.md"


def test_logged_model_predicts_the_same(client: MlflowClient, model: Path) -> None:
    """Loaded by another process elsewhere, with its own copy of the code: the same classes."""
    run_id = train()
    with tracking_client.resume_run({"mlflow_run_id": run_id}, name="ce-0") as run:
        run.log_model(model, example=segmenter.encode(IMAGE), settings=InferenceSettings((32, 64)))
    [logged] = client.search_logged_models([client.get_run(str(run_id)).info.experiment_id])
    uri = f"models:/{logged.model_id}"
    assert logged.source_run_id == run_id
    assert logged.experiment_id == runs_by_name(client)["ce-0"].info.experiment_id
    program = f"""
import json, mlflow, pandas
mlflow.set_tracking_uri({store.tracking_uri()!r})
model = mlflow.pyfunc.load_model({uri!r})
import segformer
classes = model.predict(pandas.DataFrame({{"image": [{segmenter.encode(IMAGE)!r}]}}))
print(json.dumps([segformer.__file__, str(classes.dtype), classes.tolist()]))
"""
    process = subprocess.run(
        # -I: neither this folder nor PYTHONPATH is on the path.
        [sys.executable, "-I", "-c", program],
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    )
    code, dtype, classes = json.loads(process.stdout.splitlines()[-1])
    assert Path(code).is_relative_to(Path.cwd() / "mlartifacts")
    assert dtype == "uint8"
    expected = Predictor(checkpoint.load(model), InferenceSettings((32, 64)))
    np.testing.assert_array_equal([expected.predict_classes(IMAGE)], np.array(classes))
    artifacts = Path(logged.artifact_location.removeprefix("file://"))
    assert not [path for path in artifacts.rglob("*") if path.suffix in (".pkl", ".pickle", ".pt")]


def pending_journals() -> list[str]:
    """The losses of the runs whose journals are here, oldest first."""
    return [path.name.split("-")[1] for path in sorted(Path(".work/tracking").glob("*"))]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The warnings of tracking."""
    return [x.message for x in caplog.records if x.name == "pipeline.tracking.client"]


def dump_store(client: MlflowClient) -> str:
    """Everything that a store has of the project's runs, as JSON."""
    dump = []
    for run in runs_by_name(client).values():
        histories = [client.get_metric_history(run.info.run_id, key) for key in run.data.metrics]
        dump.append([run.to_dictionary(), [[dict(x) for x in points] for points in histories]])
        dump[-1].append([artifact.path for artifact in client.list_artifacts(run.info.run_id)])
    return json.dumps(dump, default=str)


def test_unreachable_server(
    client: MlflowClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Without a server a training continues with one warning, without an id and without waiting."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", UNREACHABLE.replace("//", "//me:secret@"))
    start = time.monotonic()
    assert train() is None
    assert time.monotonic() - start < 5
    [message] = warnings(caplog)
    assert "Connection refused" in message
    assert "secret" not in message
    with tracking_client.resume_run({}, name="ce-0") as run:
        run.log_evaluation({"miou": 0.5}, {}, "p")
    assert run.id is None
    (tmp_path / "report").mkdir()
    assert tracking_client.log_ablation_run("ablation", [{}], {}, tmp_path / "report") is None


def test_sync_uploads_runs_recorded_without_a_server(
    client: MlflowClient, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`sync` uploads training, evaluation and ablation as if the store had been reachable.

    It removes the journals, so that a second `sync` has nothing to do.
    """
    facts = {"mlflow_run_id": None, "run_key": None}
    with monkeypatch.context() as away:
        away.setenv("MLFLOW_TRACKING_URI", UNREACHABLE)
        with tracking_client.start_training_run(
            "ce-0", params={"train.steps": 3}, tags={"loss": "ce"}
        ) as run:
            for step in (1, 2, 3):
                run.report(StepRecord(step, 3, 1 / step, 6e-5, 10.0, None))
            run.log_artifacts(model / "config.json", artifact_path="train")
        facts["run_key"] = run.key
        with tracking_client.resume_run(facts, name="ce-0") as run:
            run.log_evaluation({"miou": 0.5}, {}, "p")
        tracking_client.log_ablation_run("ablation", [facts], {"difference": 0.1}, model)
    assert ["ce", "ce", "ablation"] == pending_journals()
    assert [("ce-0", None), ("ce-0", None), ("ablation", None)] == list(sync_journals())
    runs = runs_by_name(client)
    assert {"ce-0", "ablation"} == set(runs)
    assert {"FINISHED"} == {run.info.status for run in runs.values()}
    history = client.get_metric_history(runs["ce-0"].info.run_id, "train/loss")
    assert [(1, 1.0), (2, 0.5), (3, 1 / 3)] == [(point.step, point.value) for point in history]
    assert {"loss": "ce", "protocol": "p"}.items() <= runs["ce-0"].data.tags.items()
    assert 0.5 == runs["ce-0"].data.metrics["eval/miou"]
    assert runs["ablation"].info.run_id == runs["ce-0"].data.tags["mlflow.parentRunId"]
    assert [] == pending_journals()
    before = dump_store(client)
    assert [] == list(sync_journals())
    assert before == dump_store(client)


def test_uploading_a_journal_again_changes_nothing(client: MlflowClient, tmp_path: Path) -> None:
    """A journal uploaded again from its first line, as after a lost answer, duplicates nothing."""
    copy = tmp_path / "copy"
    with tracking_client.start_training_run("ce-0", params={"a": 1}, tags={}) as run:
        for step in (1, 2, 3):
            run.report(StepRecord(step, 3, 1 / step, 6e-5, 10.0, None))
        run.log_metrics({"eval/miou": 0.5})
        run.log_dataset(Path("data/pack"), "d41d8cd98f00b204e9800998ecf8427e.dir")
        run.log_artifacts(Path(tracking_client.__file__))
        [folder] = Path(".work/tracking").iterdir()
        (tmp_path / "copy").mkdir()
        for name in ("lines.jsonl", "files"):
            copy_path = shutil.copytree if (folder / name).is_dir() else shutil.copyfile
            copy_path(folder / name, copy / name)
    before = json.loads(dump_store(client))
    copy.rename(Path(".work/tracking/20260101T000000.0-ce-0-1"))
    assert [("ce-0", None)] == list(sync_journals())
    after = json.loads(dump_store(client))
    # The copy has no end, as if the process had been killed.
    for dump in (before, after):
        dump[0][0]["info"].update(status="", end_time=0)
    assert before == after


def test_training_resumed_after_an_outage_is_one_run(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed without a server, resumed with one: one run with every step once, FINISHED.

    The journal of the first attempt is removed when the last one ends.
    """

    def attempt(steps: int, resume_key: str | None) -> str:
        with (
            suppress(SystemExit),
            tracking_client.start_training_run("ce-0", {}, {}, resume_key=resume_key) as run,
        ):
            for step in range(1, steps + 1):
                run.report(StepRecord(step, 3, 1 / step, 6e-5, 10.0, None))
            if steps < 3:
                sys.exit()
        return run.key

    with monkeypatch.context() as away:
        away.setenv("MLFLOW_TRACKING_URI", UNREACHABLE)
        key = attempt(1, None)
    assert ["ce"] == pending_journals()
    assert key == attempt(2, key)
    assert runs_by_name(client)["ce-0"].info.status == "KILLED"
    assert key == attempt(3, key)
    assert ["ce-0"] == list(runs_by_name(client))
    assert runs_by_name(client)["ce-0"].info.status == "FINISHED"
    history = client.get_metric_history(runs_by_name(client)["ce-0"].info.run_id, "train/loss")
    assert [1, 2, 3] == [point.step for point in history]
    assert [] == pending_journals()


def test_sync_after_a_killed_process(client: MlflowClient) -> None:
    """`sync` uploads what a training recorded before kill -9, and ends the run KILLED.

    While the process runs, `sync` skips its journal.
    """
    program = """
import os, signal, sys
from pipeline.tracking import client
from segformer.training.state import StepRecord
os.environ["MLFLOW_TRACKING_URI"] = "http://127.0.0.1:9"
with client.start_training_run("ce-0", params={}, tags={}) as run:
    run.report(StepRecord(1, 3, 0.5, 6e-5, 10.0, None))
    print("recorded", flush=True)
    sys.stdin.read()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(tracking_client.__file__).parents[2])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert process.stdout
        assert b"recorded\n" == process.stdout.readline()
        assert [("ce-0", "not uploaded, the run is still in progress")] == list(sync_journals())
    finally:
        process.kill()
        process.communicate()
    assert [("ce-0", None)] == list(sync_journals())
    assert runs_by_name(client)["ce-0"].info.status == "KILLED"
    assert {"train/loss": 0.5}.items() <= runs_by_name(client)["ce-0"].data.metrics.items()


class FaultyHandler(BaseHTTPRequestHandler):
    """A handler that answers every request with `fault`."""

    fault: Callable[["FaultyHandler"], None]

    def do_GET(self) -> None:
        """Call `fault`."""
        type(self).fault(self)

    do_POST = do_GET  # noqa: N815  the name is http.server's

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(lambda self: self.send_error(500), id="500"),
        pytest.param(lambda _: time.sleep(30), id="30 s"),
        pytest.param(lambda self: self.connection.close(), id="connection closed"),
    ],
)
def test_faulty_server_does_not_delay_a_training(
    fault: Callable[[FaultyHandler], None],
    client: MlflowClient,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whatever a server answers, or when, the timeout holds, and `sync` uploads everything."""
    monkeypatch.setattr(tracking_client, "TRAINING_TIMEOUT", 1.0)
    handler = type("Handler", (FaultyHandler,), {"fault": fault})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, monkeypatch.context() as faulty:
        server.daemon_threads, server.block_on_close = True, False
        threading.Thread(target=server.serve_forever, daemon=True).start()
        faulty.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_port}")
        start = time.monotonic()
        assert train() is None
        assert time.monotonic() - start < 3
        server.shutdown()
    assert 1 == len(warnings(caplog))
    assert [("ce-0", None)] == list(sync_journals())
    assert runs_by_name(client)["ce-0"].info.status == "FINISHED"


def test_store_damaged_during_a_training(
    client: MlflowClient, caplog: pytest.LogCaptureFixture
) -> None:
    """A store damaged during a training causes one warning; once repaired, it gets the rest."""
    with tracking_client.start_training_run("ce-0", params={}, tags={}) as run:
        content = Path("mlflow.db").read_bytes()
        Path("mlflow.db").write_bytes(b"this is no database " * 1000)
        for step in range(1, 200):
            run.report(StepRecord(step, 200, 0.5, 6e-5, 10.0, None))
    assert run.id is not None
    assert 1 == len(warnings(caplog))
    Path("mlflow.db").write_bytes(content)
    assert [("ce-0", None)] == list(sync_journals())
    history = client.get_metric_history(run.id, "train/loss")
    assert list(range(1, 200)) == [point.step for point in history]


def test_refused_file_leaves_no_run_open(
    client: MlflowClient, caplog: pytest.LogCaptureFixture
) -> None:
    """If only a file cannot be stored, the run is closed nevertheless; `sync` uploads the file."""
    Path("mlartifacts").write_text("a file in place of the folder")
    with tracking_client.start_training_run("ce-0", params={}, tags={}) as run:
        run.log_artifacts(Path(tracking_client.__file__))
        run.log_metrics({"after": 1.0})
    assert runs_by_name(client)["ce-0"].info.status == "FINISHED"
    assert {"after": 1.0}.items() <= runs_by_name(client)["ce-0"].data.metrics.items()
    assert 1 == len(warnings(caplog))
    [(_, problem)] = sync_journals()
    assert problem is not None
    Path("mlartifacts").unlink()
    assert [("ce-0", None)] == list(sync_journals())
    assert ["client.py"] == [artifact.path for artifact in client.list_artifacts(run.id)]


def test_missing_file_causes_a_warning(
    client: MlflowClient, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that does not exist causes a warning that names it, and fails nothing."""
    with tracking_client.start_training_run("ce-0", params={}, tags={}) as run:
        run.log_artifacts(Path("missing.csv"))
    assert runs_by_name(client)["ce-0"].info.status == "FINISHED"
    messages = [message.split(" cannot be logged")[0] for message in warnings(caplog)]
    assert ["missing.csv"] == messages


def test_journal_removed_by_another_process(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A journal removed after it was listed fails neither the end of a training nor `sync`."""
    Journal.create(store.journals_folder(), "dice-0").close()
    journals = journal.list_journals(store.journals_folder())
    journals[0].remove()
    monkeypatch.setattr(sync, "list_journals", lambda _root: journals)
    train("ce-0")
    assert "FINISHED" == runs_by_name(client)["ce-0"].info.status
    assert [] == list(sync_journals())


def test_model_is_logged_once(client: MlflowClient, model: Path) -> None:
    """Evaluating the same model again logs no second copy of it."""
    run_id = train()
    for _ in range(2):
        with tracking_client.resume_run({"mlflow_run_id": run_id}, name="ce-0") as run:
            run.log_model(
                model, example=segmenter.encode(IMAGE), settings=InferenceSettings((32, 64))
            )
    experiment = client.get_run(str(run_id)).info.experiment_id
    assert 1 == len(client.search_logged_models([experiment]))


def test_sync_uploads_a_model_recorded_with_an_input_size(
    client: MlflowClient, model: Path
) -> None:
    """A journal of an earlier version has `input_size` of a model: it predicts at that size."""
    recorded = Journal.create(store.journals_folder(), "ce-0")
    recorded.append("run", name="ce-0", key="a-key", params={}, tags={}, adds=False)
    recorded.append(
        "model",
        copy=recorded.copy_in(model),
        example=segmenter.encode(IMAGE),
        input_size=[32, 64],
    )
    recorded.append("end", status="FINISHED")
    recorded.close()
    assert [("ce-0", None)] == list(sync_journals())
    experiment_id = runs_by_name(client)["ce-0"].info.experiment_id
    [logged] = client.search_logged_models([experiment_id])
    predictor = load_model(f"models:/{logged.model_id}").predictor
    settings = InferenceSettings((32, 64))
    assert settings == predictor.settings
    expected = Predictor(checkpoint.load(model), settings).predict_classes(IMAGE)
    np.testing.assert_array_equal(expected, predictor.predict_classes(IMAGE))


def test_first_run_is_silent(first_run: tuple[Path, str]) -> None:
    """From the creation of the database to the end of a run nothing is printed or left behind."""
    folder, printed = first_run
    assert printed == ""
    assert {"mlflow.db", ".work"} == {path.name for path in folder.iterdir()}
    assert [] == list((folder / ".work/tracking").iterdir())


def test_user_settings_take_precedence(
    monkeypatch: pytest.MonkeyPatch, client: MlflowClient
) -> None:
    """MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME are respected."""
    database = Path.cwd() / "other.db"
    shutil.copy("mlflow.db", database)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    run_id = train()
    other_client = MlflowClient(f"sqlite:///{database}")
    mine = other_client.get_experiment_by_name("mine")
    assert mine is not None
    assert [run_id] == [run.info.run_id for run in other_client.search_runs([mine.experiment_id])]
    assert client.get_experiment_by_name(store.DEFAULT_EXPERIMENT) is None
