"""pipeline.flows.mlflow_links: links to the runs of a retraining."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import pytest

from pipeline.flows import mlflow_links
from pipeline.tracking import store
from tests.fakes.sample_project import SampleProject


class _Mlflow(BaseHTTPRequestHandler):
    """A fake of MLflow's REST API with one experiment."""

    required_authorization: str | None = None
    """Required value of the header Authorization; None if none is required."""

    runs: ClassVar[list[str]] = []
    """Names of its runs, which are also their ids."""

    def do_GET(self) -> None:
        is_allowed = self.required_authorization in (None, self.headers["Authorization"])
        self.send_response(200 if is_allowed else 401)
        self.end_headers()
        runs = [{"info": {"run_name": name, "run_id": name}} for name in self.runs]
        self.wfile.write(json.dumps({"experiment": {"experiment_id": "7"}, "runs": runs}).encode())

    do_POST = do_GET  # noqa: N815  the name is http.server's

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def mlflow() -> Iterator[str]:
    """Host and port of a fake MLflow server."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Mlflow)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_link_has_no_credentials(mlflow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link has neither a password nor stars in its place, and opens the view of the arms."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@{mlflow}/")
    (table,) = mlflow_links.list_run_links("mild-otter")
    address, _, view = table.url.partition("?")
    assert f"http://{mlflow}/#/experiments/7/runs" == address
    assert {"workflowType=machine_learning", f"viewStateShareKey={store.VIEW_STATE_KEY}"} == (
        set(view.split("&"))
    )


@pytest.mark.parametrize(
    ("account", "header"),
    [
        ({"USERNAME": "worker", "PASSWORD": "secret"}, "Basic d29ya2VyOnNlY3JldA=="),
        ({"TOKEN": "secret"}, "Bearer secret"),
    ],
)
def test_requests_use_the_credentials_of_mlflow_client(
    account: dict[str, str], header: str, mlflow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests use the variables of MLflow's client, and no link contains the credentials."""
    monkeypatch.setattr(_Mlflow, "required_authorization", header)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{mlflow}")
    assert [] == mlflow_links.list_run_links("mild-otter")
    for name, value in account.items():
        monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", value)
    (table,) = mlflow_links.list_run_links("mild-otter")
    assert "secret" not in table.url


def test_runs_of_an_experiment_are_sorted_by_name(
    mlflow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Links are sorted by name, not by time, and open the run among the trainings."""
    monkeypatch.setattr(_Mlflow, "runs", ["dice-0", "ce-1", "ce-0"])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{mlflow}")
    links = mlflow_links.list_run_links("mild-otter")
    assert ["ce-0", "ce-1", "dice-0", "all runs"] == [link.text for link in links]
    page = f"http://{mlflow}/#/experiments/7/runs/ce-0?workflowType=machine_learning"
    assert page == links[0].url


def test_challengers_are_the_arms_of_the_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs are listed by id, or by key if they are not uploaded yet; former arms are left out.

    The folder of a former arm is beside the others.
    """
    project = SampleProject(tmp_path / "project", monkeypatch)
    arms = {"ce-0": ("id of ce", "key"), "dice-0": (None, "key of dice"), "former-0": ("f", "f")}
    for arm, (run, key) in arms.items():
        (project.folder / arm).mkdir()
        facts = json.dumps({"mlflow_run_id": run, "run_key": key})
        (project.folder / arm / "run.json").write_text(facts)
    project.stages["train"]["outs"] = ["${item.loss}-${item.seed}/run.json"]
    project.stages["ablation"]["deps"] = []
    project.save()
    assert ["id of ce", "key of dice"] == mlflow_links.list_arm_runs(["ce-0", "dice-0"])
