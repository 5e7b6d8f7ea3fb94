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

# Through tracking, which turns MLflow's reports home off before it imports it.
MlflowClient = tracking_client.MlflowClient
PICTURE = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
SETTINGS = ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID")
NOWHERE = "http://127.0.0.1:9"  # the discard port: nobody listens
SURROUNDINGS = ("DVC_ROOT", "DVC_STAGE", "DVC_EXP_NAME", "PREFECT_FLOW_RUN_ID")


@pytest.fixture(scope="session")
def first_use(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a first run ever, which makes the database, and all that it printed.

    The tests start from copies of that database, because making one takes seconds.
    """
    folder = tmp_path_factory.mktemp("first")
    program = """
from pipeline.tracking import client
with client.start_training_run("first", params={"a": 1}, tags={}) as run:
    assert run.id
from mlflow.telemetry.client import get_telemetry_client
assert get_telemetry_client() is None
"""
    done = subprocess.run(
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
    return folder, done.stdout


@pytest.fixture
def client(
    tmp_path: Path, first_use: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> MlflowClient:
    """A look into the embedded store of an empty project, in which the test then runs."""
    for name in (*SETTINGS, *SURROUNDINGS):
        # Set and deleted, so that what the test or MLflow sets is taken back in any case.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    # Loading a model puts its code on the path.
    monkeypatch.setattr(sys, "path", sys.path[:])
    shutil.copy(first_use[0] / "mlflow.db", tmp_path)
    monkeypatch.chdir(tmp_path)
    return MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model with random weights."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "ce-0"
    checkpoint.save(SegFormer("b0"), folder)
    return folder


def runs(client: MlflowClient) -> dict[str, Any]:
    """All runs of the project's experiment by name."""
    experiment = client.get_experiment_by_name(store.DEFAULT_EXPERIMENT)
    assert experiment is not None
    return {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}


def train(name: str = "ce-0", steps: int = 3) -> str | None:
    """One short training, of which only the tracking is real; the run's id."""
    params = {"train.steps": steps, "pack.size": (128, 256)}
    with tracking_client.start_training_run(
        name, params=params, tags={"loss": name[:-2], "seed": 0}
    ) as run:
        for step in range(1, steps + 1):
            run.report(
                StepRecord(step, steps, 1 / step, 6e-5, 10.0, 0.4 if step == steps else None)
            )
    return run.id


def test_a_training_is_one_run(client: MlflowClient) -> None:
    """A run bears the arm's name, its parameters, every record by step, and ends FINISHED."""
    run_id = train()
    run = runs(client)["ce-0"]
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


def test_a_run_is_found_by_id_part_and_name(client: MlflowClient) -> None:
    """Its id, the first eight letters of it and its name mean the same run."""
    train()
    run_id = train("dice-0")
    assert run_id
    found = {
        search.resolve_run(client, one, None).info.run_id for one in (run_id, run_id[:8], "dice-0")
    }
    assert {run_id} == found


def test_a_run_that_is_not_there_is_not_made_again(client: MlflowClient) -> None:
    """The sentence names the run, and does not blame MLflow."""
    with pytest.raises(ValueError, match="MLflow knows no finished training 'focal-0'"):
        list(reproduce.reproduce_run("focal-0", None))


def test_an_arm_to_be_made_again_is_its_newest_finished_training(
    client: MlflowClient, tmp_path: Path
) -> None:
    """Neither one that was itself made again, nor one that was killed; and one scored elsewhere."""
    with tracking_client.start_training_run("ce-0", {}, {provenance.MODEL_SHA256: "1"}) as run:
        run.log_artifacts(write_changed_params(tmp_path), artifact_path="source")
    for tags in ({provenance.MODEL_SHA256: "1", provenance.REPRODUCES: run.id}, {}):
        with tracking_client.start_training_run("ce-0", {}, tags):
            pass
    with tracking_client.start_training_run(
        "elsewhere", {}, {provenance.EVALUATES: run.key}
    ) as scored:
        pass
    for wanted in ("ce-0", scored.id):
        assert wanted
        assert run.id == fetch_origin(wanted, tmp_path).run_id


def test_where_no_run_was_none_is_made_again(client: MlflowClient, tmp_path: Path) -> None:
    """Without a database the sentence says so, and none is made by asking."""
    (tmp_path / "mlflow.db").unlink()
    with pytest.raises(ValueError, match=r"mlflow\.db is missing"):
        list(reproduce.reproduce_run("focal-0", None))
    assert not (tmp_path / "mlflow.db").exists()


def test_an_experiment_adds_nothing_to_a_run_of_the_workspace(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch, model: Path
) -> None:
    """What it scores without training it is a run of its own, and the child of its ablation."""
    trained = {"mlflow_run_id": train(), "run_key": "a-key"}
    monkeypatch.setenv("DVC_EXP_NAME", "half-size")
    for miou in (0.3, 0.4):  # a stage that is run again makes no second one
        with tracking_client.resume_run(trained, "ce-0", {"loss": "ce"}) as run:
            run.log_evaluation({"miou": miou}, {}, "val2/official/64x128/whole/ss/last")
    parent = tracking_client.log_ablation_run("ablation", [trained], {"difference": 0.1}, model)
    assert 3 == len(client.search_runs([client.get_run(run.id).info.experiment_id]))
    untouched, own = client.get_run(trained["mlflow_run_id"]).data, client.get_run(run.id).data
    assert "eval/miou" not in untouched.metrics
    assert not {"protocol", "mlflow.parentRunId"} & set(untouched.tags)
    assert 0.4 == own.metrics["eval/miou"]
    expected = {
        "dvc.exp": "half-size",
        "evaluates": "a-key",
        "mlflow.parentRunId": parent,
    }
    assert expected.items() <= own.tags.items()


def test_what_an_experiment_did_not_score_is_compared_as_the_workspace_scored_it(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch, model: Path
) -> None:
    """One that compares anew, or adds an arm, names every arm, and takes none from its parent."""
    workspaces = {"mlflow_run_id": train(), "run_key": "a-key"}
    monkeypatch.setenv("DVC_EXP_NAME", "another-seed")
    added = {"mlflow_run_id": train("ce-1"), "experiment": "another-seed"}
    parent = tracking_client.log_ablation_run(
        "ablation", [workspaces, added], {"difference": 0.1}, model
    )
    runs = [client.get_run(arm["mlflow_run_id"]).data.tags for arm in (workspaces, added)]
    assert [None, parent] == [tags.get("mlflow.parentRunId") for tags in runs]
    expected = f"{workspaces['mlflow_run_id']},{added['mlflow_run_id']}"
    assert expected == client.get_run(str(parent)).data.tags["ablation.arms"]


def test_any_name_of_an_experiment_names_its_runs(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One with a quotation mark, which MLflow's filters end at, finds its run again."""
    trained = {"mlflow_run_id": train(), "run_key": "a-key"}
    monkeypatch.setenv("DVC_EXP_NAME", "it's")
    ids = []
    for _ in range(2):
        with tracking_client.resume_run(trained, "ce-0") as run:
            pass
        ids.append(run.id)
    assert None is not ids[0] == ids[1]


def test_an_experiment_adds_to_what_it_has_trained(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training and evaluation of an experiment are one run."""
    monkeypatch.setenv("DVC_EXP_NAME", "half-size")
    facts = {"mlflow_run_id": train(), "experiment": "half-size"}
    with tracking_client.resume_run(facts, "ce-0") as run:
        run.log_metrics({"eval/miou": 0.4})
    assert facts["mlflow_run_id"] == run.id


def test_more_parameters_than_mlflow_takes_at_once(client: MlflowClient) -> None:
    """All of 250 parameters are logged, though MLflow takes 100 in one call."""
    params = {f"section.number_{i}": i for i in range(250)}
    with tracking_client.start_training_run("ce-0", params=params, tags={}):
        pass
    assert {name: str(value) for name, value in params.items()} == runs(client)["ce-0"].data.params


def test_a_run_says_where_it_comes_from(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tags name stage, experiment and flow; the dataset bears DVC's md5; a description sums up."""
    monkeypatch.setenv("DVC_STAGE", "train@ce-0")
    monkeypatch.setenv("DVC_EXP_NAME", "lofty-ibex")
    monkeypatch.setenv("PREFECT_FLOW_RUN_ID", "6b3b0c6e")
    tags = {"loss": "ce", "seed": 0, "data.md5": "d41d8cd98f00b204e9800998ecf8427e.dir"}
    with tracking_client.start_training_run("ce-0", params={}, tags=tags) as run:
        run.log_dataset(Path("data/pack"), "d41d8cd98f00b204e9800998ecf8427e.dir")
    found = runs(client)["ce-0"]
    assert {
        "dvc.stage": "train@ce-0",
        "dvc.exp": "lofty-ibex",
        "prefect.flow_run_id": "6b3b0c6e",
        "loss": "ce",
        "seed": "0",
        "data.md5": "d41d8cd98f00b204e9800998ecf8427e.dir",
    }.items() <= found.data.tags.items()
    assert "dvc repro train@ce-0" in found.data.tags["mlflow.note.content"]
    [read] = found.inputs.dataset_inputs
    assert read.dataset.name == "data/pack"
    assert read.dataset.digest == "d41d8cd98f00b204e9800998ecf8427e.dir"


def test_an_exception_fails_the_run(client: MlflowClient) -> None:
    """A training that raises ends FAILED, keeps what it had reported, and the exception goes on."""

    def fail() -> None:
        with tracking_client.start_training_run("ce-0", params={}, tags={}) as run:
            run.report(StepRecord(1, 3, 0.5, 6e-5, 10.0, None))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert runs(client)["ce-0"].info.status == "FAILED"
    assert runs(client)["ce-0"].data.metrics["train/loss"] == 0.5


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_a_stopped_run_is_killed(client: MlflowClient, stop: type[BaseException]) -> None:
    """Ctrl-C, and SystemExit, which SIGTERM is turned into, end the run KILLED."""
    with pytest.raises(stop), tracking_client.start_training_run("ce-0", params={}, tags={}):
        raise stop
    assert runs(client)["ce-0"].info.status == "KILLED"


def test_an_evaluation_goes_into_the_trainings_run(client: MlflowClient, tmp_path: Path) -> None:
    """Figures, protocol, tables and pictures of an evaluation are found in the run that trained."""
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
    assert ["ce-0"] == list(runs(client))
    found = runs(client)["ce-0"]
    assert found.info.status == "FINISHED"
    evaluated = {name: x for name, x in found.data.metrics.items() if name.startswith("eval/")}
    assert {"eval/miou": 0.5, "eval/iou/road": 0.9, "eval/iou/traffic light": 0.1} == evaluated
    assert found.data.tags["protocol"] == "val8/official/128x256/whole/ss/last"
    stored = tmp_path / "mlartifacts" / str(run_id) / "artifacts"
    assert [
        "evaluate/panels/0.png",
        "evaluate/per_class.csv",
        "train/per_class.csv",
    ] == sorted(path.relative_to(stored).as_posix() for path in stored.rglob("*.*"))


def test_an_evaluation_leaves_the_trainings_duration(client: MlflowClient) -> None:
    """A run ends as its training did, however much later it is evaluated, and however that ends."""
    run_id = train()
    trained = client.get_run(str(run_id)).info.end_time
    with tracking_client.resume_run({"mlflow_run_id": run_id}, name="ce-0"):
        time.sleep(0.01)
        assert "RUNNING" == client.get_run(str(run_id)).info.status
    with suppress(SystemExit), tracking_client.resume_run({"mlflow_run_id": run_id}, name="ce-0"):
        sys.exit()
    assert (trained, "FINISHED") == (
        client.get_run(str(run_id)).info.end_time,
        client.get_run(str(run_id)).info.status,
    )


def test_every_loss_has_its_colour(client: MlflowClient) -> None:
    """In MLflow's charts no two arms look alike: a hue for each loss, a tint for each seed."""
    colors = {
        ui.arm_color_tags({"loss": loss, "seed": str(seed)})["mlflow.runColor"]
        for loss in LOSSES
        for seed in range(3)
    }
    assert 3 * len(LOSSES) == len(colors)
    with tracking_client.start_training_run("dice-0", {}, {"loss": "dice", "seed": 0}):
        pass
    assert "#D55E00" == runs(client)["dice-0"].data.tags["mlflow.runColor"]
    assert {} == ui.arm_color_tags({"dvc.stage": "ablation"})


def test_a_training_shows_how_often_each_class_occurs(client: MlflowClient, tmp_path: Path) -> None:
    """The run of the train command holds frequency's tables and chart, in the folder `data`."""
    noise = np.random.default_rng(0)
    for split in ("train", "val"):
        with create(tmp_path / "pack" / split, [split], (32, 32)) as (images, labels):
            images[:], labels[:] = noise.integers(0, 19, images.shape), 0
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
    places = {
        "--work": "work",
        "--pack": "pack",
        "--frequency": "frequency",
        "--weights": "weights",
        "--out": "ce-0",
    }
    given = [text for flag, name in places.items() for text in (flag, str(tmp_path / name))]
    done = CliRunner().invoke(
        app, ["train", *given, "--loss", "ce", "--seed", "0", "--params", str(params)]
    )
    assert 0 == done.exit_code, done.output
    run_id = runs(client)["ce-0"].info.run_id
    stored = tmp_path / "mlartifacts" / run_id / "artifacts" / "data"
    assert tables == {path.name: path.read_text() for path in stored.iterdir()}
    assert (stored.parent / "train" / "history.csv").exists()


def test_an_unknown_run_is_restored_once(client: MlflowClient, tmp_path: Path) -> None:
    """An id that this store lacks gives one new run, which later evaluations and ablations find."""
    for miou in (0.4, 0.5):
        with tracking_client.resume_run({"mlflow_run_id": "0" * 32}, name="ce-0") as run:
            run.log_evaluation({"miou": miou}, {}, "p")
    tracking_client.log_ablation_run("ablation", [{"mlflow_run_id": "0" * 32}], {}, tmp_path)
    assert {"ce-0-restored", "ablation"} == set(runs(client))
    restored = runs(client)["ce-0-restored"]
    assert restored.data.metrics == {"eval/miou": 0.5}
    assert restored.data.tags["restored_from"] == "0" * 32
    assert restored.data.tags["mlflow.parentRunId"] == runs(client)["ablation"].info.run_id


def test_a_deleted_run_counts_as_unknown(client: MlflowClient) -> None:
    """A run that someone has deleted is not written to, but restored as a new one."""
    run_id = train()
    client.delete_run(str(run_id))
    with tracking_client.resume_run({"mlflow_run_id": run_id}, name="ce-0") as run:
        pass
    assert {"ce-0-restored"} == set(runs(client))
    assert run.id != run_id


def test_an_ablation_groups_its_arms(client: MlflowClient, tmp_path: Path) -> None:
    """The arms are the children of the latest ablation; an earlier one still names them.

    An ablation bears the protocol by which the arms were scored, and tells its verdict.
    """
    arms = [train("ce-0"), train("dice-0")]
    facts = [{"mlflow_run_id": arm} for arm in [*arms, None]]
    (tmp_path / "report").mkdir()
    (tmp_path / "report/ablation.md").write_text("# CE wins\n")
    first = tracking_client.log_ablation_run(
        "first", facts, {"difference": 0.01}, tmp_path / "report"
    )
    told = {"protocol": "p", "verdict": "CE wins by 2 points."}
    second = tracking_client.log_ablation_run(
        "second", facts, {"difference": 0.02}, tmp_path / "report", told
    )
    found = runs(client)
    assert {second} == {found[arm].data.tags["mlflow.parentRunId"] for arm in ("ce-0", "dice-0")}
    assert "p" == found["second"].data.tags["protocol"]
    assert "CE wins by 2 points." in found["second"].data.tags["mlflow.note.content"]
    for run_id, difference in ((first, 0.01), (second, 0.02)):
        run = client.get_run(str(run_id))
        assert run.info.status == "FINISHED"
        assert run.data.tags["ablation.arms"] == f"{arms[0]},{arms[1]}"
        assert run.data.metrics == {"difference": difference}
        [stored] = client.list_artifacts(str(run_id), "ablation")
        assert stored.path == "ablation/ablation.md"


def test_a_logged_model_loads_and_predicts_the_same(client: MlflowClient, model: Path) -> None:
    """Loaded in a process of its own elsewhere, with its own copy of our code: the same classes."""
    run_id = train()
    with tracking_client.resume_run({"mlflow_run_id": run_id}, name="ce-0") as run:
        run.log_model(
            model, example=segmenter.encode(PICTURE), settings=InferenceSettings((32, 64))
        )
    [logged] = client.search_logged_models([client.get_run(str(run_id)).info.experiment_id])
    uri = f"models:/{logged.model_id}"
    assert logged.source_run_id == run_id
    assert logged.experiment_id == runs(client)["ce-0"].info.experiment_id
    program = f"""
import json, mlflow, pandas
mlflow.set_tracking_uri({store.tracking_uri()!r})
model = mlflow.pyfunc.load_model({uri!r})
import segformer
classes = model.predict(pandas.DataFrame({{"image": [{segmenter.encode(PICTURE)!r}]}}))
print(json.dumps([segformer.__file__, str(classes.dtype), classes.tolist()]))
"""
    done = subprocess.run(
        # -I: neither this folder nor anything from outside is on the path.
        [sys.executable, "-I", "-c", program],
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    )
    code, kind, classes = json.loads(done.stdout.splitlines()[-1])
    assert Path(code).is_relative_to(Path.cwd() / "mlartifacts")
    assert kind == "uint8"
    expected = Predictor(checkpoint.load(model), InferenceSettings((32, 64)))
    np.testing.assert_array_equal([expected.predict_classes(PICTURE)], np.array(classes))
    kept = Path(logged.artifact_location.removeprefix("file://"))
    assert not [path for path in kept.rglob("*") if path.suffix in (".pkl", ".pickle", ".pt")]


def journals() -> list[str]:
    """The journals that wait here, by the name of the run."""
    return [path.name.split("-")[1] for path in sorted(Path(".work/tracking").glob("*"))]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What tracking has warned of."""
    return [each.message for each in caplog.records if each.name == "pipeline.tracking.client"]


def everything(client: MlflowClient) -> str:
    """All that a store holds of the project's runs."""
    held = []
    for run in runs(client).values():
        histories = [client.get_metric_history(run.info.run_id, key) for key in run.data.metrics]
        held.append([run.to_dictionary(), [[dict(x) for x in points] for points in histories]])
        held[-1].append([each.path for each in client.list_artifacts(run.info.run_id)])
    return json.dumps(held, default=str)


def test_a_server_that_is_not_there_fails_nothing(
    client: MlflowClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Without a server a training goes on with one warning, no id, and without waiting."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOWHERE.replace("//", "//me:secret@"))
    start = time.monotonic()
    assert train() is None
    assert time.monotonic() - start < 5
    [said] = warnings(caplog)
    assert "Connection refused" in said
    assert "secret" not in said
    with tracking_client.resume_run({}, name="ce-0") as run:
        run.log_evaluation({"miou": 0.5}, {}, "p")
    assert run.id is None
    (tmp_path / "report").mkdir()
    assert tracking_client.log_ablation_run("ablation", [{}], {}, tmp_path / "report") is None


def test_what_a_missing_server_was_not_told_is_sent_later(
    client: MlflowClient, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`sync` gives a store that was away training, evaluation and ablation as if it had been there.

    The journals are gone then, so that a second `sync` has nothing to do.
    """
    facts = {"mlflow_run_id": None, "run_key": None}
    with monkeypatch.context() as away:
        away.setenv("MLFLOW_TRACKING_URI", NOWHERE)
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
    assert ["ce", "ce", "ablation"] == journals()
    assert [("ce-0", None), ("ce-0", None), ("ablation", None)] == list(sync_journals())
    found = runs(client)
    assert {"ce-0", "ablation"} == set(found)
    assert {"FINISHED"} == {run.info.status for run in found.values()}
    history = client.get_metric_history(found["ce-0"].info.run_id, "train/loss")
    assert [(1, 1.0), (2, 0.5), (3, 1 / 3)] == [(point.step, point.value) for point in history]
    assert {"loss": "ce", "protocol": "p"}.items() <= found["ce-0"].data.tags.items()
    assert 0.5 == found["ce-0"].data.metrics["eval/miou"]
    assert found["ablation"].info.run_id == found["ce-0"].data.tags["mlflow.parentRunId"]
    assert [] == journals()
    before = everything(client)
    assert [] == list(sync_journals())
    assert before == everything(client)


def test_what_was_sent_already_is_not_doubled(client: MlflowClient, tmp_path: Path) -> None:
    """A journal sent again from its first line, as after a lost answer, changes nothing."""
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
            kind = shutil.copytree if (folder / name).is_dir() else shutil.copyfile
            kind(folder / name, copy / name)
    before = json.loads(everything(client))
    copy.rename(Path(".work/tracking/20260101T000000.0-ce-0-1"))
    assert [("ce-0", None)] == list(sync_journals())
    after = json.loads(everything(client))
    # The copy was made before the end was written: it tells of a process that was killed.
    for held in (before, after):
        held[0][0]["info"].update(status="", end_time=0)
    assert before == after


def test_a_resumed_training_is_one_run_though_the_server_was_away(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Begun without a server and killed, gone on with a server: one run, every step once, FINISHED.

    What the first attempt left goes when the second one ends.
    """

    def attempt(steps: int, begun_as: str | None) -> str:
        with (
            suppress(SystemExit),
            tracking_client.start_training_run("ce-0", {}, {}, resume_key=begun_as) as run,
        ):
            for step in range(1, steps + 1):
                run.report(StepRecord(step, 3, 1 / step, 6e-5, 10.0, None))
            if steps < 3:
                sys.exit()
        return run.key

    with monkeypatch.context() as away:
        away.setenv("MLFLOW_TRACKING_URI", NOWHERE)
        key = attempt(1, None)
    assert ["ce"] == journals()
    assert key == attempt(2, key)
    assert runs(client)["ce-0"].info.status == "KILLED"
    assert key == attempt(3, key)
    assert ["ce-0"] == list(runs(client))
    assert runs(client)["ce-0"].info.status == "FINISHED"
    history = client.get_metric_history(runs(client)["ce-0"].info.run_id, "train/loss")
    assert [1, 2, 3] == [point.step for point in history]
    assert [] == journals()


def test_a_killed_process_leaves_its_journal(client: MlflowClient) -> None:
    """What a training told before kill -9 is sent by `sync`, and the run ends KILLED.

    As long as the process is at work, `sync` leaves it alone.
    """
    program = """
import os, signal, sys
from pipeline.tracking import client
from segformer.training.state import StepRecord
os.environ["MLFLOW_TRACKING_URI"] = "http://127.0.0.1:9"
with client.start_training_run("ce-0", params={}, tags={}) as run:
    run.report(StepRecord(1, 3, 0.5, 6e-5, 10.0, None))
    print("told", flush=True)
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
        assert b"told\n" == process.stdout.readline()
        assert [("ce-0", "it is still being written")] == list(sync_journals())
    finally:
        process.kill()
        process.communicate()
    assert [("ce-0", None)] == list(sync_journals())
    assert runs(client)["ce-0"].info.status == "KILLED"
    assert {"train/loss": 0.5}.items() <= runs(client)["ce-0"].data.metrics.items()


class Unwell(BaseHTTPRequestHandler):
    """A server that has an address and nothing else."""

    answer: Callable[["Unwell"], None]

    def do_GET(self) -> None:
        """Do as `answer` says."""
        type(self).answer(self)

    do_POST = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda self: self.send_error(500), id="500"),
        pytest.param(lambda _: time.sleep(30), id="30 s"),
        pytest.param(lambda self: self.connection.close(), id="cut"),
    ],
)
def test_an_unwell_server_costs_a_training_seconds(
    answer: Callable[[Unwell], None],
    client: MlflowClient,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whatever a server answers, or when: the patience is not exceeded, and `sync` sends all."""
    monkeypatch.setattr(tracking_client, "TRAINING_TIMEOUT", 1.0)
    handler = type("Handler", (Unwell,), {"answer": answer})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, monkeypatch.context() as unwell:
        server.daemon_threads, server.block_on_close = True, False
        threading.Thread(target=server.serve_forever, daemon=True).start()
        unwell.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_port}")
        start = time.monotonic()
        assert train() is None
        assert time.monotonic() - start < 3
        server.shutdown()
    assert 1 == len(warnings(caplog))
    assert [("ce-0", None)] == list(sync_journals())
    assert runs(client)["ce-0"].info.status == "FINISHED"


def test_a_store_that_dies_midway_fails_nothing(
    client: MlflowClient, caplog: pytest.LogCaptureFixture
) -> None:
    """A store that breaks during a training costs one warning; mended, it is sent the rest."""
    with tracking_client.start_training_run("ce-0", params={}, tags={}) as run:
        whole = Path("mlflow.db").read_bytes()
        Path("mlflow.db").write_bytes(b"this is no database " * 1000)
        for step in range(1, 200):
            run.report(StepRecord(step, 200, 0.5, 6e-5, 10.0, None))
    assert run.id is not None
    assert 1 == len(warnings(caplog))
    Path("mlflow.db").write_bytes(whole)
    assert [("ce-0", None)] == list(sync_journals())
    history = client.get_metric_history(run.id, "train/loss")
    assert list(range(1, 200)) == [point.step for point in history]


def test_a_file_that_is_refused_leaves_no_run_open(
    client: MlflowClient, caplog: pytest.LogCaptureFixture
) -> None:
    """When only a file cannot be stored, the run is closed all the same; `sync` sends the file."""
    Path("mlartifacts").write_text("here no folder can be")
    with tracking_client.start_training_run("ce-0", params={}, tags={}) as run:
        run.log_artifacts(Path(tracking_client.__file__))
        run.log_metrics({"after": 1.0})
    assert runs(client)["ce-0"].info.status == "FINISHED"
    assert {"after": 1.0}.items() <= runs(client)["ce-0"].data.metrics.items()
    assert 1 == len(warnings(caplog))
    [(_, trouble)] = sync_journals()
    assert trouble is not None
    Path("mlartifacts").unlink()
    assert [("ce-0", None)] == list(sync_journals())
    assert ["client.py"] == [each.path for each in client.list_artifacts(run.id)]


def test_a_file_that_is_not_there_fails_nothing(
    client: MlflowClient, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that nobody wrote costs a warning that names it."""
    with tracking_client.start_training_run("ce-0", params={}, tags={}) as run:
        run.log_artifacts(Path("not there.csv"))
    assert runs(client)["ce-0"].info.status == "FINISHED"
    assert ["not there.csv"] == [said.split(" is not kept")[0] for said in warnings(caplog)]


def test_a_journal_that_goes_meanwhile_fails_nothing(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that another process drops just now troubles neither a training's end nor `sync`."""
    Journal.create(store.journals_folder(), "dice-0").close()
    found = journal.list_journals(store.journals_folder())
    found[0].remove()
    monkeypatch.setattr(sync, "list_journals", lambda _place: found)
    train("ce-0")
    assert "FINISHED" == runs(client)["ce-0"].info.status
    assert [] == list(sync_journals())


def test_a_model_is_logged_once(client: MlflowClient, model: Path) -> None:
    """Evaluating the same model again adds no second copy of it to the run."""
    run_id = train()
    for _ in range(2):
        with tracking_client.resume_run({"mlflow_run_id": run_id}, name="ce-0") as run:
            run.log_model(
                model, example=segmenter.encode(PICTURE), settings=InferenceSettings((32, 64))
            )
    experiment = client.get_run(str(run_id)).info.experiment_id
    assert 1 == len(client.search_logged_models([experiment]))


def test_nothing_is_said_when_all_is_well(first_use: tuple[Path, str]) -> None:
    """From making the database to the end of a run nothing is printed, left about or reported."""
    folder, printed = first_use
    assert printed == ""
    assert {"mlflow.db", ".work"} == {path.name for path in folder.iterdir()}
    assert [] == list((folder / ".work/tracking").iterdir())


def test_the_users_settings_win(monkeypatch: pytest.MonkeyPatch, client: MlflowClient) -> None:
    """MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME are followed."""
    elsewhere = Path.cwd() / "elsewhere.db"
    shutil.copy("mlflow.db", elsewhere)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{elsewhere}")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    run_id = train()
    found = MlflowClient(f"sqlite:///{elsewhere}")
    mine = found.get_experiment_by_name("mine")
    assert mine is not None
    assert [run_id] == [run.info.run_id for run in found.search_runs([mine.experiment_id])]
    assert client.get_experiment_by_name(store.DEFAULT_EXPERIMENT) is None
