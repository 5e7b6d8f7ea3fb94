"""MLflow's settings, addresses and error messages, without the second that its import takes."""

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

from pipeline.paths import project_root

DEFAULT_EXPERIMENT = "cityscapes-segformer"
MODEL_NAME = "segformer-cityscapes"  # in the registry
CHAMPION = "champion"  # the alias of the version in use
PORT = 5000  # of MLflow's page
VIEW_STATE_KEY = "arms"  # of the experiment's own columns and charts on that page

_WORKFLOW_QUERY = "workflowType=machine_learning"
"""The query of an address; without it MLflow opens its pages on GenAI."""

ENVIRONMENT = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # by default a call to a dead server takes minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # seconds
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",  # pipeline.tracking warns in one line instead
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""Environment variables to set before MLflow is imported."""


def tracking_uri() -> str:
    """Return MLFLOW_TRACKING_URI; if it is not set, the SQLite file in the project's folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{database_path()}"


def database_path() -> Path:
    """Return the project's own database, which is used unless MLFLOW_TRACKING_URI is set."""
    return project_root() / "mlflow.db"


def create_database(initialize: Callable[[str], object]) -> None:
    """Create the project's own database completely or not at all, unless a store exists.

    MLflow creates it in thirty steps: two processes would disturb each other, and ctrl-C would
    leave a part of it, which MLflow can never repair.

    Args:
        initialize: creates a database at the URI that it is called with.
    """
    path = database_path()
    if exists():
        return
    with TemporaryDirectory(prefix=".mlflow-", dir=path.parent) as folder:
        part = Path(folder) / path.name
        initialize(f"sqlite:///{part}")
        with suppress(FileExistsError):  # another process has created it
            os.link(part, path)


def exists() -> bool:
    """Whether there is a store: MLFLOW_TRACKING_URI is set, or the project's database exists.

    MLflow creates an empty database when it queries one that does not exist.
    """
    return bool(os.environ.get("MLFLOW_TRACKING_URI")) or database_path().exists()


def check_exists() -> None:
    """Check that there is a store.

    Raises:
        ValueError: if there is none.
    """
    if not exists():
        raise ValueError(f"{database_path()} is missing: run `dvc repro` to train a model")


def experiment_name() -> str:
    """Return MLFLOW_EXPERIMENT_NAME; if it is not set, DEFAULT_EXPERIMENT."""
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or DEFAULT_EXPERIMENT


def artifact_location() -> str | None:
    """Return the URI for the files of a new experiment; None: the server decides.

    By default an embedded store uses the current folder of the first process.
    """
    return None if tracking_uri().startswith("http") else (project_root() / "mlartifacts").as_uri()


def view_instructions() -> str:
    """Return the server's address, or the command that starts a server of the embedded store."""
    if tracking_uri().startswith("http"):
        return redact_secrets(tracking_uri())
    program = Path(sys.executable).with_name("mlflow")
    if program.is_relative_to(Path.cwd()):
        program = program.relative_to(Path.cwd())
    # A database's URI may contain a password, so the command names the variable.
    is_set = bool(os.environ.get("MLFLOW_TRACKING_URI"))
    address = '"$MLFLOW_TRACKING_URI"' if is_set else shlex.quote(tracking_uri())
    return (
        "DO_NOT_TRACK=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false"
        f" {shlex.quote(str(program))} server --workers 1"
        f" --host 127.0.0.1 --port {PORT} --backend-store-uri {address}"
    )


def page_url() -> str:
    """Return the address of the project's runs, best first; if unknown, of all experiments."""
    return experiment_url(_find_experiment_id())


def experiment_url(experiment_id: str | None) -> str:
    """Return the address of an experiment's runs; None: of all experiments."""
    path = f"/{experiment_id}/runs" if experiment_id else ""
    view = f"&viewStateShareKey={VIEW_STATE_KEY}" if experiment_id else ""
    return f"{browser_url()}/#/experiments{path}?{_WORKFLOW_QUERY}{view}"


def run_url(experiment_id: str, run_id: str) -> str:
    """Return the address of a run."""
    return f"{browser_url()}/#/experiments/{experiment_id}/runs/{run_id}?{_WORKFLOW_QUERY}"


def browser_url() -> str:
    """Return the server's address without user and password: the browser asks for them."""
    if not tracking_uri().startswith("http"):
        return f"http://127.0.0.1:{PORT}"
    return redact_secrets(tracking_uri()).replace("//***@", "//", 1).rstrip("/")


def _find_experiment_id() -> str | None:
    """The id of the project's experiment, from the embedded store or a server on this machine."""
    try:
        if tracking_uri() != f"sqlite:///{database_path()}":
            if urlsplit(tracking_uri()).hostname not in ("127.0.0.1", "localhost"):
                return None
            from urllib.request import urlopen  # slow to import; --help loads this module

            query = urlencode({"experiment_name": experiment_name()})
            address = f"{tracking_uri().rstrip('/')}/api/2.0/mlflow/experiments/get-by-name?{query}"
            with urlopen(address, timeout=2) as response:
                return str(json.load(response)["experiment"]["experiment_id"])
        with closing(sqlite3.connect(f"file:{database_path()}?mode=ro", uri=True)) as database:
            statement = "select experiment_id from experiments where name = ?"
            row = database.execute(statement, [experiment_name()]).fetchone()
            return str(row[0]) if row else None
    except (OSError, ValueError, LookupError, sqlite3.Error):
        return None


def journals_folder() -> Path:
    """Return the folder of the runs that MLflow does not have completely."""
    return project_root() / ".work" / "tracking"


def describe_upload_failure(error: Exception) -> str:
    """Return one line: the reason for which MLflow does not get a run, and what to do."""
    return redact_secrets(
        f"MLflow at {tracking_uri()} failed, continuing without it: {summarize_error(error)};"
        " `segformer sync` uploads the run later"
    )


def describe_query_failure(error: Exception) -> str:
    """Return one line: the reason for which MLflow does not do what was requested."""
    return redact_secrets(f"MLflow at {tracking_uri()} failed: {summarize_error(error)}")


def summarize_error(error: Exception) -> str:
    """Return the reason of a store's error: one line of at most 200 characters."""
    first_line = next(iter(str(error).splitlines()), type(error).__name__)
    # Redacted before it is cut: in a part of an address the password is not recognized.
    return redact_secrets(first_line).split("(Caused by ")[-1][:200]


def redact_secrets(text: str) -> str:
    """Replace user and password of every address in a text by ***."""
    return re.sub(r"//[^/\s]*@", "//***@", text)  # up to the last @: a password may contain others
