"""Where MLflow keeps the runs and how to look at them, without the second it takes to import it."""

import json
import os
import re
import shlex
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlencode, urlsplit
from urllib.request import urlopen

from pipeline.paths import project_root

DEFAULT_EXPERIMENT = "cityscapes-segformer"
MODEL_NAME = "segformer-cityscapes"  # in the registry
CHAMPION = "champion"  # the alias of its version that is used
PORT = 5000  # of the page
VIEW_STATE_KEY = "arms"  # the columns and charts that the experiment comes with, in MLflow's page

_WORKFLOW_QUERY = "workflowType=machine_learning"
"""In an address: by itself MLflow opens its pages on GenAI."""

ENVIRONMENT = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # by default a dead server holds every call for minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # seconds
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",  # what a person should know, tracking says in one line
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""Settings that MLflow reads from the environment, to be there before it is imported."""


def tracking_uri() -> str:
    """Return MLFLOW_TRACKING_URI, or else the SQLite file in the project's folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{database_path()}"


def database_path() -> Path:
    """Return the project's own database, which is used unless MLFLOW_TRACKING_URI names another."""
    return project_root() / "mlflow.db"


def create_database(initialize: Callable[[str], object]) -> None:
    """Make the project's own database, whole or not at all, unless it is there.

    MLflow makes it in thirty steps: two processes would trip each other, and a ctrl-C would leave
    half of it, which MLflow can never repair.

    Args:
        initialize: makes a database at the address it is given.
    """
    path = database_path()
    if exists():
        return
    with TemporaryDirectory(prefix=".mlflow-", dir=path.parent) as folder:
        part = Path(folder) / path.name
        initialize(f"sqlite:///{part}")
        with suppress(FileExistsError):  # another process was first
            os.link(part, path)


def exists() -> bool:
    """Whether there is something to ask: a server that is named, or the project's own database.

    Asked before it is made, MLflow would make an empty one.
    """
    return bool(os.environ.get("MLFLOW_TRACKING_URI")) or database_path().exists()


def check_exists() -> None:
    """Refuse to ask a store before there is one.

    Raises:
        ValueError: if there is none.
    """
    if not exists():
        raise ValueError(f"{database_path()} is missing: `dvc repro` trains and keeps a model")


def experiment_name() -> str:
    """Return MLFLOW_EXPERIMENT_NAME, or else the project's own name."""
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or DEFAULT_EXPERIMENT


def artifact_location() -> str | None:
    """Return where a new experiment keeps its files; None: the server decides.

    An embedded store would choose the folder that the first process happened to start in.
    """
    return None if tracking_uri().startswith("http") else (project_root() / "mlartifacts").as_uri()


def view_instructions() -> str:
    """Return the server's address, or the command that serves the embedded store to a browser."""
    if tracking_uri().startswith("http"):
        return redact_secrets(tracking_uri())
    program = Path(sys.executable).with_name("mlflow")
    if program.is_relative_to(Path.cwd()):
        program = program.relative_to(Path.cwd())
    # A database's address may hold a password, so it is not written out.
    is_given = bool(os.environ.get("MLFLOW_TRACKING_URI"))
    address = '"$MLFLOW_TRACKING_URI"' if is_given else shlex.quote(tracking_uri())
    return (
        "DO_NOT_TRACK=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false"
        f" {shlex.quote(str(program))} server --workers 1"
        f" --host 127.0.0.1 --port {PORT} --backend-store-uri {address}"
    )


def page_url() -> str:
    """Return the page to open: the runs, best first, or the experiments if MLflow is not here."""
    return experiment_url(_find_experiment_id())


def experiment_url(experiment_id: str | None) -> str:
    """Return the page of an experiment's runs; None: that of all experiments."""
    place = f"/{experiment_id}/runs" if experiment_id else ""
    view = f"&viewStateShareKey={VIEW_STATE_KEY}" if experiment_id else ""
    return f"{browser_url()}/#/experiments{place}?{_WORKFLOW_QUERY}{view}"


def run_url(experiment_id: str, run_id: str) -> str:
    """Return the page of a run of the experiment with that number."""
    return f"{browser_url()}/#/experiments/{experiment_id}/runs/{run_id}?{_WORKFLOW_QUERY}"


def browser_url() -> str:
    """Return the server's address for a browser, without user and password: it asks for them."""
    if not tracking_uri().startswith("http"):
        return f"http://127.0.0.1:{PORT}"
    return redact_secrets(tracking_uri()).replace("//***@", "//", 1).rstrip("/")


def _find_experiment_id() -> str | None:
    """Ask the embedded store, or a server on this machine, by what number it calls ours."""
    try:
        if tracking_uri() != f"sqlite:///{database_path()}":
            if urlsplit(tracking_uri()).hostname not in ("127.0.0.1", "localhost"):
                return None
            question = urlencode({"experiment_name": experiment_name()})
            address = (
                f"{tracking_uri().rstrip('/')}/api/2.0/mlflow/experiments/get-by-name?{question}"
            )
            with urlopen(address, timeout=2) as answer:
                return str(json.load(answer)["experiment"]["experiment_id"])
        with closing(sqlite3.connect(f"file:{database_path()}?mode=ro", uri=True)) as opened:
            query = "select experiment_id from experiments where name = ?"
            found = opened.execute(query, [experiment_name()]).fetchone()
            return str(found[0]) if found else None
    except (OSError, ValueError, LookupError, sqlite3.Error):
        return None


def journals_folder() -> Path:
    """Return the folder of what MLflow has not been told yet."""
    return project_root() / ".work" / "tracking"


def describe_upload_failure(error: Exception) -> str:
    """Return one line on why MLflow does not take what it is given, and what to do."""
    return redact_secrets(
        f"MLflow at {tracking_uri()} failed, the work goes on without it: {summarize_error(error)};"
        " `python -m pipeline sync` will send what it lacks"
    )


def describe_query_failure(error: Exception) -> str:
    """Return one line on why MLflow does not give what it is asked for."""
    return redact_secrets(
        f"MLflow at {tracking_uri()} does not answer as it should: {summarize_error(error)}"
    )


def summarize_error(error: Exception) -> str:
    """Return what is wrong with the store, in a line."""
    first_line = next(iter(str(error).splitlines()), type(error).__name__)
    # Hidden before it is cut: of half an address nobody sees that a password is in it.
    return redact_secrets(first_line).split("(Caused by ")[-1][:200]


def redact_secrets(text: str) -> str:
    """Return the text with user and password of every address in it replaced by ***."""
    return re.sub(r"//[^/\s]*@", "//***@", text)  # up to the last @: a password may hold others
