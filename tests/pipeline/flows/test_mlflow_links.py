"""pipeline.flows.mlflow_links: pages and runs of a retraining."""

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
    """Knows one experiment, and tells it to whom it is meant to."""

    wanted: str | None = None
    """The header Authorization that it asks for; None: none."""

    runs: ClassVar[list[str]] = []
    """The names of its runs, which are their ids as well."""

    def do_GET(self) -> None:
        self.send_response(401 if self.wanted not in (None, self.headers["Authorization"]) else 200)
        self.end_headers()
        runs = [{"info": {"run_name": name, "run_id": name}} for name in self.runs]
        self.wfile.write(json.dumps({"experiment": {"experiment_id": "7"}, "runs": runs}).encode())

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def mlflow() -> Iterator[str]:
    """Host and port of a server that answers like MLflow's."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Mlflow)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_a_link_works_for_whoever_opens_it(mlflow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has neither a password nor stars in its place, and opens the view of the arms."""
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
def test_a_server_with_accounts_is_asked_with_the_one_that_mlflow_uses(
    account: dict[str, str], header: str, mlflow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is set for MLflow's client opens it for the links, too, and is in none of them."""
    monkeypatch.setattr(_Mlflow, "wanted", header)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{mlflow}")
    assert [] == mlflow_links.list_run_links("mild-otter")
    for name, value in account.items():
        monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", value)
    (table,) = mlflow_links.list_run_links("mild-otter")
    assert "secret" not in table.url


def test_an_experiments_runs_are_in_order(mlflow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow names the newest first; a reader looks for a name. Each opens among trainings."""
    monkeypatch.setattr(_Mlflow, "runs", ["dice-0", "ce-1", "ce-0"])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{mlflow}")
    found = mlflow_links.list_run_links("mild-otter")
    assert ["ce-0", "ce-1", "dice-0", "all runs"] == [link.text for link in found]
    page = f"http://{mlflow}/#/experiments/7/runs/ce-0?workflowType=machine_learning"
    assert page == found[0].url


def test_the_arms_that_challenge_are_this_graphs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs go by their id, or by their key if MLflow has not seen them; a former arm's is not in.

    The former arm's folder lies beside the others.
    """
    toy = SampleProject(tmp_path / "toy", monkeypatch)
    arms = {"ce-0": ("id of ce", "key"), "dice-0": (None, "key of dice"), "former-0": ("f", "f")}
    for arm, (run, key) in arms.items():
        (toy.folder / arm).mkdir()
        facts = json.dumps({"mlflow_run_id": run, "run_key": key})
        (toy.folder / arm / "run.json").write_text(facts)
    toy.stages["train"]["outs"] = ["${item.loss}-${item.seed}/run.json"]
    toy.stages["ablation"]["deps"] = []
    toy.save()
    assert ["id of ce", "key of dice"] == mlflow_links.list_arm_runs(["ce-0", "dice-0"])
