import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from pipeline.tracking import store


@pytest.fixture(autouse=True)
def empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Run the test in an empty folder, without settings of the machine."""
    for name in ("DVC_ROOT", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def test_store_is_in_the_projects_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in DVC_ROOT if that is set, else in the current folder; the URI is absolute."""
    assert store.tracking_uri() == f"sqlite:///{tmp_path}/mlflow.db"
    assert store.artifact_location() == f"file://{tmp_path}/mlartifacts"
    monkeypatch.setenv("DVC_ROOT", "/project")
    assert store.tracking_uri() == "sqlite:////project/mlflow.db"


@pytest.mark.parametrize("copy", ["tmp1_x2y", "tmp1_x2y/sub/folder"])
def test_queued_experiment_uses_the_projects_store(
    copy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DVC's temporary copies below .dvc/tmp/exps have no store of their own."""
    monkeypatch.setenv("DVC_ROOT", f"/project/.dvc/tmp/exps/{copy}")
    assert store.tracking_uri() == "sqlite:////project/mlflow.db"


def test_addresses_of_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server decides where files are, and its pages are linked, without user and password."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@mlflow.example/")
    assert store.tracking_uri() == "https://me:secret@mlflow.example/"
    assert store.artifact_location() is None
    assert store.view_instructions() == "https://***@mlflow.example/"
    assert store.page_url().startswith("https://mlflow.example/#/experiments?")
    assert store.experiment_url("3").startswith("https://mlflow.example/#/experiments/3/runs?")


def test_command_that_serves_the_embedded_store(tmp_path: Path) -> None:
    """It has this environment's mlflow, loopback, the project's database, and no telemetry."""
    command = store.view_instructions()
    assert f"{Path(sys.executable).parent}/mlflow server" in command
    assert "--host 127.0.0.1" in command
    assert command.endswith(f"--backend-store-uri sqlite:///{tmp_path}/mlflow.db")
    assert "DO_NOT_TRACK=true" in command


def test_page_of_the_runs(tmp_path: Path) -> None:
    """The embedded store has the experiment's id; without it the page lists all experiments."""
    assert store.page_url().endswith("/#/experiments?workflowType=machine_learning")
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database, database:
        database.execute("create table experiments (experiment_id integer, name text)")
        database.execute("insert into experiments values (7, ?)", [store.DEFAULT_EXPERIMENT])
    page = "http://127.0.0.1:5000/#/experiments/7/runs?workflowType=machine_learning"
    assert f"{page}&viewStateShareKey=arms" == store.page_url()


def test_database_password_is_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the command nor an error contains the password of the URI."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:secret@host/runs")
    assert "secret" not in store.view_instructions()
    assert store.view_instructions().endswith('--backend-store-uri "$MLFLOW_TRACKING_URI"')
    assert "secret" not in store.describe_upload_failure(
        OSError("postgresql://me:secret@host/runs is full")
    )


def test_password_with_an_at_sign_is_redacted() -> None:
    """A password with an unescaped @ is redacted completely; the host is not."""
    assert "postgresql://***@host/runs" == store.redact_secrets("postgresql://me:p@ss@host/runs")
    text = "models:/segformer-cityscapes@champion of http://host:5000/#/a@b"
    assert text == store.redact_secrets(text)


def test_password_is_redacted_before_the_line_is_cut() -> None:
    """An address at the end of a long line shows no part of its password."""
    for length in range(160, 200):
        line = store.summarize_error(OSError(f"{'x' * length} postgresql://me:secret@host/runs"))
        assert "sec" not in line
        assert len(line) <= 200


def test_upload_failure_is_one_line() -> None:
    """Of a long message the reason is kept; the command that uploads later follows."""
    error = OSError("API request failed (Caused by NewConnectionError: Connection refused)\nmore")
    line = store.describe_upload_failure(error)
    assert "without it: NewConnectionError: Connection refused); `segformer sync`" in line
    assert "\n" not in line
    assert "OSError" in store.describe_upload_failure(OSError())


def test_interrupted_creation_leaves_no_database(tmp_path: Path) -> None:
    """A process interrupted while it creates the database leaves nothing."""

    def write_a_part(uri: str) -> None:
        Path(uri.removeprefix("sqlite:///")).write_text("a part of it")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.create_database(write_a_part)
    assert [] == list(tmp_path.iterdir())


def test_existing_database_is_kept(tmp_path: Path) -> None:
    """If two processes create the database at once, the second one uses that of the first."""

    def create_second(uri: str) -> None:
        Path(uri.removeprefix("sqlite:///")).write_text("second")
        (tmp_path / "mlflow.db").write_text("first")

    store.create_database(create_second)
    assert "first" == (tmp_path / "mlflow.db").read_text()
    store.create_database(create_second)
    assert ["mlflow.db"] == [path.name for path in tmp_path.iterdir()]


def test_no_database_for_a_store_of_the_user(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With MLFLOW_TRACKING_URI set, the project gets no database."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    store.create_database(lambda uri: pytest.fail(uri))
    assert [] == list(tmp_path.iterdir())


def test_view_instructions_import_no_mlflow() -> None:
    """The address of the runs does not cost the second that MLflow's import takes."""
    program = """
import sys
from pipeline.tracking import store
store.view_instructions()
print(*sys.modules)
"""
    root = Path(store.__file__).parents[2]
    process = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True
    )
    assert not {"mlflow", "torch", "pandas"} & set(process.stdout.split())
