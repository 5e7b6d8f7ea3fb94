import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from pipeline.tracking import store


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the machine, and an empty folder to be in."""
    for name in ("DVC_ROOT", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def test_the_store_lies_where_the_project_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Below DVC_ROOT if DVC says so, else in the current folder; always an absolute address."""
    assert store.tracking_uri() == f"sqlite:///{tmp_path}/mlflow.db"
    assert store.artifact_location() == f"file://{tmp_path}/mlartifacts"
    monkeypatch.setenv("DVC_ROOT", "/project")
    assert store.tracking_uri() == "sqlite:////project/mlflow.db"


@pytest.mark.parametrize("copy", ["tmp1_x2y", "tmp1_x2y/sub/folder"])
def test_a_queued_experiment_uses_the_projects_store(
    copy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DVC's throw-away copies below .dvc/tmp/exps have no store of their own."""
    monkeypatch.setenv("DVC_ROOT", f"/project/.dvc/tmp/exps/{copy}")
    assert store.tracking_uri() == "sqlite:////project/mlflow.db"


def test_a_server_keeps_its_own_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a server's address neither the files' place nor a command is ours to name."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@mlflow.example/")
    assert store.tracking_uri() == "https://me:secret@mlflow.example/"
    assert store.artifact_location() is None
    assert store.view_instructions() == "https://***@mlflow.example/"
    assert store.page_url().startswith("https://mlflow.example/#/experiments?")
    assert store.experiment_url("3").startswith("https://mlflow.example/#/experiments/3/runs?")


def test_the_command_shows_the_embedded_store(tmp_path: Path) -> None:
    """The line to type names this environment's mlflow, loopback, and the project's database."""
    line = store.view_instructions()
    assert f"{Path(sys.executable).parent}/mlflow server" in line
    assert "--host 127.0.0.1" in line
    assert line.endswith(f"--backend-store-uri sqlite:///{tmp_path}/mlflow.db")
    assert "DO_NOT_TRACK=true" in line


def test_the_page_is_that_of_the_runs(tmp_path: Path) -> None:
    """The embedded store tells the number of our experiment; without it the page lists them all."""
    assert store.page_url().endswith("/#/experiments?workflowType=machine_learning")
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database, database:
        database.execute("create table experiments (experiment_id integer, name text)")
        database.execute("insert into experiments values (7, ?)", [store.DEFAULT_EXPERIMENT])
    page = "http://127.0.0.1:5000/#/experiments/7/runs?workflowType=machine_learning"
    assert f"{page}&viewStateShareKey=arms" == store.page_url()


def test_a_databases_password_is_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the line to type nor a line about a failure holds what the address holds."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:secret@host/runs")
    assert "secret" not in store.view_instructions()
    assert store.view_instructions().endswith('--backend-store-uri "$MLFLOW_TRACKING_URI"')
    assert "secret" not in store.describe_upload_failure(
        OSError("postgresql://me:secret@host/runs is full")
    )


def test_a_password_with_an_at_sign_is_hidden() -> None:
    """Nothing of it stays, even where the sign was not escaped; the host does."""
    assert "postgresql://***@host/runs" == store.redact_secrets("postgresql://me:p@ss@host/runs")
    models = "models:/segformer-cityscapes@champion of http://host:5000/#/a@b"
    assert models == store.redact_secrets(models)


def test_a_password_is_hidden_before_the_line_is_cut() -> None:
    """An address that the end of a long line falls into shows no half of its password."""
    for length in range(160, 200):
        line = store.summarize_error(OSError(f"{'x' * length} postgresql://me:secret@host/runs"))
        assert "sec" not in line
        assert len(line) <= 200


def test_a_failure_is_one_line() -> None:
    """Of a long message the reason stays, and what to do is said."""
    trouble = OSError("API request failed (Caused by NewConnectionError: Connection refused)\nmore")
    line = store.describe_upload_failure(trouble)
    assert "without it: NewConnectionError: Connection refused); `python -m pipeline sync`" in line
    assert "\n" not in line
    assert "OSError" in store.describe_upload_failure(OSError())


def test_a_database_is_made_whole_or_not_at_all(tmp_path: Path) -> None:
    """A process that is stopped while it makes the database leaves nothing at all."""

    def stop(address: str) -> None:
        Path(address.removeprefix("sqlite:///")).write_text("half of it")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.create_database(stop)
    assert [] == list(tmp_path.iterdir())


def test_the_first_database_stays(tmp_path: Path) -> None:
    """Of two processes that make the database at once, the second one takes the first one's."""

    def be_late(address: str) -> None:
        Path(address.removeprefix("sqlite:///")).write_text("second")
        (tmp_path / "mlflow.db").write_text("first")

    store.create_database(be_late)
    assert "first" == (tmp_path / "mlflow.db").read_text()
    store.create_database(be_late)
    assert ["mlflow.db"] == [path.name for path in tmp_path.iterdir()]


def test_a_store_of_the_users_is_not_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With MLFLOW_TRACKING_URI set, the project gets no database."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    store.create_database(lambda address: pytest.fail(address))
    assert [] == list(tmp_path.iterdir())


def test_looking_needs_no_mlflow() -> None:
    """Saying where to look does not cost the second it takes to import MLflow."""
    program = "import sys; from pipeline.tracking import store; store.view_instructions(); print(*sys.modules)"
    root = Path(store.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True
    )
    assert not {"mlflow", "torch", "pandas"} & set(done.stdout.split())
