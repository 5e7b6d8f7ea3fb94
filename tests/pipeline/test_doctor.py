from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline import doctor, repro
from pipeline.stages.download import Download, Synthetic, run
from tests.pipeline.conftest import SHIPPED


@pytest.fixture(autouse=True)
def _somebody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Git knows who runs the tests, and no service of theirs is asked."""
    monkeypatch.setenv("GIT_AUTHOR_NAME", "somebody")
    for variable in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def source(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A source.json of a download from the tree; DVC is told to name it."""
    drawn = Synthetic(train=1, val=1, size=(32, 64), seed=0)
    params = Download(source="folder", folder=str(tree), synthetic=drawn)
    run(params, out=tmp_path / "out", progress=lambda done, total: None)
    path = tmp_path / "out" / "source.json"
    monkeypatch.setattr(repro, "output", lambda name: path if name == path.name else None)
    return path


def mistakes(params: Path = SHIPPED) -> list[str]:
    """What the doctor finds that is not well."""
    return [finding.sentence for finding in doctor.examine(params) if not finding.is_well]


def test_all_is_well(source: Path) -> None:
    """With the shipped parameters and an unchanged folder nothing is to be mended."""
    assert [] == mistakes()


def test_a_changed_folder_is_told_with_the_remedy(source: Path, tree: Path) -> None:
    """A file that is gone from the folder is named, and how to take the change in."""
    gone = next(tree.rglob("*leftImg8bit.png"))
    gone.unlink()
    (told,) = mistakes()
    assert gone.name in told
    assert "take it in with `dvc repro --force download` or `retrain`" in told


def test_mistakes_in_the_parameters_are_told(source: Path, tmp_path: Path) -> None:
    """Each wrong parameter is a line of its own."""
    yaml = YAML()
    values = yaml.load(SHIPPED)
    values["train"]["steps"] = 0
    values["train"]["stpes"] = 1
    yaml.dump(values, tmp_path / "params.yaml")
    told = mistakes(tmp_path / "params.yaml")
    assert 2 == len(told)
    assert any("did you mean train.steps?" in sentence for sentence in told)


def test_a_full_disk_is_told(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Less room than a run needs is to be mended."""
    monkeypatch.setattr(doctor, "_LEAST_FREE", 2**62)
    (told,) = mistakes()
    assert "make room" in told


def test_no_data_yet_is_no_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first run the doctor says how to bring the data."""
    monkeypatch.setattr(repro, "output", lambda name: None)
    findings = doctor.examine(SHIPPED)
    assert any("`dvc repro` brings it" in finding.sentence for finding in findings)
    assert all(finding.is_well for finding in findings)


def test_no_password_is_told(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address of a service is shown without the user and password in it."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:secret@db.example/mlflow")
    told = " ".join(map(str, doctor.examine(SHIPPED)))
    assert "postgresql://***@db.example/mlflow" in told
    assert "secret" not in told


@pytest.mark.parametrize("variable", ["MLFLOW_TRACKING_URI", "PREFECT_API_URL"])
def test_a_server_that_does_not_answer_is_told(
    source: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """A dead address is to be mended, and the message says how."""
    monkeypatch.setenv(variable, "http://127.0.0.1:9/api")
    (told,) = mistakes()
    assert f"http://127.0.0.1:9/api does not answer: start it, or unset {variable}" in told


def test_an_empty_source_folder_is_told(source: Path, tmp_path: Path) -> None:
    """A folder that the parameters name and that holds nothing is to be mended."""
    yaml = YAML()
    values = yaml.load(SHIPPED)
    (tmp_path / "empty").mkdir()
    values["download"] |= {"source": "folder", "folder": str(tmp_path / "empty")}
    yaml.dump(values, tmp_path / "params.yaml")
    (told,) = mistakes(tmp_path / "params.yaml")
    assert f"download.folder: {tmp_path / 'empty'} is missing or empty" in told


def test_git_without_a_name_is_told(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an identity `dvc exp` fails, so the doctor says so first."""
    monkeypatch.delenv("GIT_AUTHOR_NAME", raising=False)
    for variable in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(variable, "/dev/null")
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    (told,) = mistakes()
    assert "`dvc exp` needs it" in told
