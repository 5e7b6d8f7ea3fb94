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

from pipeline.root import project_root

EXPERIMENT = "cityscapes-segformer"
MODEL = "segformer-cityscapes"  # in the registry
CHAMPION = "champion"  # the alias of its version that is used
PORT = 5000  # of the page
VIEW = "arms"  # the columns and charts that the experiment comes with, in MLflow's page

_TRAINING = "workflowType=machine_learning"
"""In an address: by itself MLflow opens its pages on GenAI."""

QUIET = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # by default a dead server holds every call for minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # seconds
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",  # what a person should know, tracking says in one line
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""Settings that MLflow reads from the environment, to be there before it is imported."""


def uri() -> str:
    """Return MLFLOW_TRACKING_URI, or else the SQLite file in the project's folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{database()}"


def database() -> Path:
    """Return the project's own database, which is used unless MLFLOW_TRACKING_URI names another."""
    return project_root() / "mlflow.db"


def create(fill: Callable[[str], object]) -> None:
    """Make the project's own database, whole or not at all, unless it is there.

    MLflow makes it in thirty steps: two processes would trip each other, and a ctrl-C would leave
    half of it, which MLflow can never repair.

    Args:
        fill: makes a database at the address it is given.
    """
    path = database()
    if is_there():
        return
    with TemporaryDirectory(prefix=".mlflow-", dir=path.parent) as folder:
        part = Path(folder) / path.name
        fill(f"sqlite:///{part}")
        with suppress(FileExistsError):  # another process was first
            os.link(part, path)


def is_there() -> bool:
    """Whether there is something to ask: a server that is named, or the project's own database.

    Asked before it is made, MLflow would make an empty one.
    """
    return bool(os.environ.get("MLFLOW_TRACKING_URI")) or database().exists()


def check_is_there() -> None:
    """Refuse to ask a store before there is one.

    Raises:
        ValueError: if there is none.
    """
    if not is_there():
        raise ValueError(f"{database()} is missing: `dvc repro` trains and keeps a model")


def experiment() -> str:
    """Return MLFLOW_EXPERIMENT_NAME, or else the project's own name."""
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT


def artifacts() -> str | None:
    """Return where a new experiment keeps its files; None: the server decides.

    An embedded store would choose the folder that the first process happened to start in.
    """
    return None if uri().startswith("http") else (project_root() / "mlartifacts").as_uri()


def where_to_look() -> str:
    """Return the server's address, or the command that serves the embedded store to a browser."""
    if uri().startswith("http"):
        return without_secrets(uri())
    program = Path(sys.executable).with_name("mlflow")
    if program.is_relative_to(Path.cwd()):
        program = program.relative_to(Path.cwd())
    # A database's address may hold a password, so it is not written out.
    is_given = bool(os.environ.get("MLFLOW_TRACKING_URI"))
    address = '"$MLFLOW_TRACKING_URI"' if is_given else shlex.quote(uri())
    return (
        "DO_NOT_TRACK=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false"
        f" {shlex.quote(str(program))} server --workers 1"
        f" --host 127.0.0.1 --port {PORT} --backend-store-uri {address}"
    )


def page() -> str:
    """Return the page to open: the runs, best first, or the experiments if MLflow is not here."""
    return page_of(_experiment_number())


def page_of(number: str | None) -> str:
    """Return the page of an experiment's runs; None: that of all experiments."""
    place = f"/{number}/runs" if number else ""
    view = f"&viewStateShareKey={VIEW}" if number else ""
    return f"{browser_address()}/#/experiments{place}?{_TRAINING}{view}"


def page_of_run(number: str, run_id: str) -> str:
    """Return the page of a run of the experiment with that number."""
    return f"{browser_address()}/#/experiments/{number}/runs/{run_id}?{_TRAINING}"


def browser_address() -> str:
    """Return the server's address for a browser, without user and password: it asks for them."""
    if not uri().startswith("http"):
        return f"http://127.0.0.1:{PORT}"
    return without_secrets(uri()).replace("//***@", "//", 1).rstrip("/")


def _experiment_number() -> str | None:
    """Ask the embedded store, or a server on this machine, by what number it calls ours."""
    try:
        if uri() != f"sqlite:///{database()}":
            if urlsplit(uri()).hostname not in ("127.0.0.1", "localhost"):
                return None
            question = urlencode({"experiment_name": experiment()})
            address = f"{uri().rstrip('/')}/api/2.0/mlflow/experiments/get-by-name?{question}"
            with urlopen(address, timeout=2) as answer:
                return str(json.load(answer)["experiment"]["experiment_id"])
        with closing(sqlite3.connect(f"file:{database()}?mode=ro", uri=True)) as opened:
            query = "select experiment_id from experiments where name = ?"
            found = opened.execute(query, [experiment()]).fetchone()
            return str(found[0]) if found else None
    except (OSError, ValueError, LookupError, sqlite3.Error):
        return None


def journals() -> Path:
    """Return the folder of what MLflow has not been told yet."""
    return project_root() / ".work" / "tracking"


def failure(trouble: Exception) -> str:
    """Return one line on why MLflow does not take what it is given, and what to do."""
    return without_secrets(
        f"MLflow at {uri()} failed, the work goes on without it: {reason(trouble)};"
        " `python -m pipeline sync` will send what it lacks"
    )


def refusal(trouble: Exception) -> str:
    """Return one line on why MLflow does not give what it is asked for."""
    return without_secrets(f"MLflow at {uri()} does not answer as it should: {reason(trouble)}")


def reason(trouble: Exception) -> str:
    """Return what is wrong with the store, in a line."""
    first_line = next(iter(str(trouble).splitlines()), type(trouble).__name__)
    # Hidden before it is cut: of half an address nobody sees that a password is in it.
    return without_secrets(first_line).split("(Caused by ")[-1][:200]


def without_secrets(text: str) -> str:
    """Return the text with user and password of every address in it replaced by ***."""
    return re.sub(r"//[^/\s]*@", "//***@", text)  # up to the last @: a password may hold others
