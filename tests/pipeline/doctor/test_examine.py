import json
import os
import shutil
import stat
import sys
from contextlib import closing
from pathlib import Path

import pytest
import torch
from ruamel.yaml import YAML
from typer.testing import CliRunner

import pipeline
from pipeline import dvc
from pipeline.cli.app import app
from pipeline.doctor import examine
from pipeline.download import credentials
from pipeline.params.download import Download
from pipeline.stages import remap
from pipeline.stages.download import IMAGE_ZIP, LABEL_ZIP, download_data
from pipeline.tracking import store
from pipeline.tracking.journal import Journal
from tests.pipeline.conftest import PARAMS_FILE, corrupt_zip_directory


@pytest.fixture(autouse=True)
def _somebody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Git knows who runs the tests, and the disk has room; no service, no account is asked."""
    monkeypatch.setenv("GIT_AUTHOR_NAME", "somebody")
    has_room = shutil._ntuple_diskusage(10**13, 0, 10**13)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: has_room)
    for variable in (
        "MLFLOW_TRACKING_URI",
        "PREFECT_API_URL",
        credentials.USERNAME,
        credentials.PASSWORD,
    ):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(credentials, "official_file", lambda: tmp_path / "credentials.json")
    monkeypatch.setattr(store, "journals_folder", lambda: tmp_path / "tracking")


@pytest.fixture
def source(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A source.json of a download from the tree, remapped too; DVC is told to name both."""
    section = YAML(typ="safe").load(PARAMS_FILE)["download"]
    params, _ = Download.parse("download", section | {"source": "folder", "folder": str(tree)})
    assert params is not None
    raw, remapped = tmp_path / "out", tmp_path / "remapped"
    download_data(params, out=raw, progress=lambda done, total, words="": None)
    remap.remap_labels(
        remap.Remap(split="official", held_out=0.2, seed=0),
        images=raw / IMAGE_ZIP,
        ground_truth=raw / LABEL_ZIP,
        out=remapped,
        progress=lambda done, total: None,
        processes=1,
    )
    dvc_names(monkeypatch, raw / "source.json", remapped / "pixel_counts.csv")
    return raw / "source.json"


def dvc_names(monkeypatch: pytest.MonkeyPatch, *paths: Path) -> None:
    """DVC, which takes a second to say where an output lies, is told to name these."""
    by_name = {path.name: path for path in paths}
    monkeypatch.setattr(dvc, "find_outputs", lambda *names: {name: by_name[name] for name in names})


def changed(into: Path, section: str, /, **values: object) -> Path:
    """The shipped parameters with some of a section changed."""
    yaml = YAML()
    params = yaml.load(PARAMS_FILE)
    params[section] |= values
    yaml.dump(params, into / "params.yaml")
    return into / "params.yaml"


def mistakes(params: Path = PARAMS_FILE) -> list[str]:
    """What the doctor finds that is not well."""
    return [finding.message for finding in examine.run_checks(params) if not finding.ok]


def test_all_is_well(source: Path) -> None:
    """With the shipped parameters and an unchanged folder nothing is to be mended."""
    assert [] == mistakes()


def test_everything_is_looked_at(source: Path) -> None:
    """Machine, parameters, data and services, those of a topic together."""
    topics = [finding.topic for finding in examine.run_checks(PARAMS_FILE)]
    expected = [
        "environment",
        "device",
        "disk",
        "git",
        "parameters",
        "raw data",
        "frames",
        "labels",
        "deep look",
        "services",
        "credentials",
        "runs",
    ]
    assert expected == list(dict.fromkeys(topics))


def test_nothing_is_changed(source: Path, tmp_path: Path) -> None:
    """No file is written, removed or touched."""
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    examine.run_checks(PARAMS_FILE)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}


def test_a_changed_folder_is_told_with_the_remedy(source: Path, tree: Path) -> None:
    """A file that is gone from the folder is named, and how to take the change in."""
    gone = next(tree.rglob("*leftImg8bit.png"))
    gone.unlink()
    (told,) = mistakes()
    assert gone.name in told
    assert "take it in with `dvc repro --force download` or `retrain`" in told


def test_mistakes_in_the_parameters_are_told(source: Path, tmp_path: Path) -> None:
    """Each wrong parameter is a line of its own, and the data is looked at all the same."""
    params = changed(tmp_path, "train", steps=0, stpes=1)
    told = mistakes(params)
    assert 2 == len(told)
    assert any("did you mean train.steps?" in sentence for sentence in told)
    assert any(finding.topic == "deep look" for finding in examine.run_checks(params))


def test_a_full_disk_is_told(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Less room than a run needs is to be mended."""
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(9, 9, 0))
    (told,) = mistakes()
    assert "make room for" in told


def test_no_data_yet_is_no_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first run the doctor says how to bring the data."""
    dvc_names(monkeypatch, tmp_path / "source.json", tmp_path / "pixel_counts.csv")
    findings = examine.run_checks(PARAMS_FILE)
    assert any("`dvc repro` brings it" in finding.message for finding in findings)
    assert all(finding.ok for finding in findings)


def test_a_project_that_dvc_cannot_read_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """What DVC says becomes a line; the rest is looked at."""

    def refuse(*names: str) -> None:
        raise ValueError("dvc.yaml is no YAML")

    monkeypatch.setattr(dvc, "find_outputs", refuse)
    assert ["dvc.yaml is no YAML"] == mistakes()


def only(topic: str, params: Path = PARAMS_FILE) -> str:
    """The one thing to mend, which is of this topic; that all else was looked at is seen too."""
    findings = examine.run_checks(params)
    assert {"environment", "device", "git", "services", "credentials"} <= {
        finding.topic for finding in findings
    }
    (told,) = [finding for finding in findings if not finding.ok]
    assert topic == told.topic
    return told.message


def test_a_source_that_cannot_be_read_is_one_line(source: Path) -> None:
    """It is named with the reason; frames and labels are looked at all the same."""
    source.unlink()
    source.mkdir()
    told = only("raw data")
    assert f"{source} cannot be looked at (Is a directory): " in told
    assert any(finding.topic == "deep look" for finding in examine.run_checks(PARAMS_FILE))


@pytest.mark.parametrize("content", ["[]", '{"source": "folder"}', '{"source": "fol', "\0\xff"])
def test_a_source_that_is_none_is_one_line(source: Path, content: str) -> None:
    """Whatever stands in source.json instead, what to do is said."""
    source.unlink()
    source.write_bytes(content.encode("latin-1"))
    assert f"{source} is damaged: `dvc repro --force download`" == only("raw data")


def test_a_zip_that_cannot_be_read_is_one_line(source: Path) -> None:
    """A socket in its place, which nobody can open."""
    path = source.parent / IMAGE_ZIP
    path.unlink()
    os.mknod(path, stat.S_IFSOCK)
    assert f"{path} cannot be looked at (No such device or address)" in only("raw data")


def test_a_folder_that_cannot_be_looked_at_is_one_line(source: Path, tmp_path: Path) -> None:
    """A path longer than the system takes breaks each question about it, and nothing else."""
    params = changed(tmp_path, "download", source="folder", folder="x" * 300)
    told = {finding.topic for finding in examine.run_checks(params) if not finding.ok}
    assert {"disk", "parameters"} == told


def test_parameters_that_cannot_be_read_are_one_line(source: Path, tmp_path: Path) -> None:
    """A folder in the file's place."""
    assert f"{tmp_path} cannot be looked at (Is a directory)" in only("parameters", tmp_path)


def test_a_package_that_cannot_be_loaded_is_one_line(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broken installation is what a doctor is called for."""
    monkeypatch.setitem(sys.modules, "pipeline.doctor.data", None)
    monkeypatch.delattr(pipeline, "data_checks", raising=False)
    assert "a package cannot be loaded (" in only("raw data")


def test_a_device_that_does_not_answer_is_one_line(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What CUDA says is told, its first line."""

    def fail() -> None:
        raise RuntimeError("CUDA error: unspecified launch failure\nFor debugging ...")

    monkeypatch.setattr(torch.cuda, "is_available", fail)
    told = only("device")
    assert "(CUDA error: unspecified launch failure)" in told


def test_what_a_cut_download_left_is_told(source: Path) -> None:
    """Pieces, which go on; a file that is not what it should be; each with its size."""
    raw = source.parent
    for name in (f"{IMAGE_ZIP}.download.part", f"{LABEL_ZIP}.bad", "source.json.part"):
        (raw / name).write_bytes(b"12345678901234567")
    findings = examine.run_checks(PARAMS_FILE)
    told = "\n".join(finding.message for finding in findings)
    assert f"{raw / IMAGE_ZIP}.download.part, 17 bytes: a download that was cut short; the" in told
    assert f"{raw / LABEL_ZIP}.bad, 17 bytes: arrived, but is not what it should be, and" in told
    assert f"{raw / 'source.json'}.part, 17 bytes: what a stage that was killed had begun" in told
    assert all(finding.ok for finding in findings)


def test_what_a_killed_stage_left_is_told(source: Path) -> None:
    """Beside the folder of the download too: half a pack may be 29 GB."""
    half = source.parent.parent / "pack.part" / "train"
    half.mkdir(parents=True)
    (half / "images.npy").write_bytes(bytes(1500))
    told = [finding.message for finding in examine.run_checks(PARAMS_FILE)]
    expected = f"{half.parent}, 1.5 kB: what a stage that was killed had begun; delete it"
    assert 1 == sum(sentence.startswith(expected) for sentence in told)


def test_a_broken_zip_in_the_folder_is_told(source: Path, tmp_path: Path) -> None:
    """Its directory is damaged, though its end is not: named, and the rest is looked at."""
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in (IMAGE_ZIP, LABEL_ZIP):
        shutil.copy(source.parent / name, folder / name)
    corrupt_zip_directory(folder / IMAGE_ZIP)
    told = only("disk", changed(tmp_path, "download", source="folder", folder=str(folder)))
    assert f"{folder / IMAGE_ZIP} is not a whole zip file: fetch it again" in told


def test_coarse_data_that_is_missing_is_told(source: Path, tmp_path: Path) -> None:
    """Where remap is to use it, both zips are named with what brings them."""
    yaml = YAML()
    params = yaml.load(PARAMS_FILE)
    params["download"] |= {"source": "folder", "folder": str(tmp_path), "train_extra": True}
    params["remap"]["train_extra"] = True
    yaml.dump(params, tmp_path / "params.yaml")
    findings = examine.run_checks(tmp_path / "params.yaml")
    told = [one.message for one in findings if one.topic == "raw data" and not one.ok]
    assert 2 == len(told)
    for name, sentence in zip(("leftImg8bit_trainextra", "gtCoarse"), told, strict=True):
        assert f"{name}.zip is missing: `dvc checkout` or `dvc repro --force download`" in sentence


def test_no_secret_is_told(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a service's password nor the account's, wherever it stands, on any output."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:sesame@db.example/mlflow")
    monkeypatch.setenv("PREFECT_API_URL", "http://me:sesame@127.0.0.1:9/api")
    monkeypatch.setenv(credentials.PASSWORD, "sesame")
    (tmp_path / "credentials.json").write_text(
        json.dumps({"username": "somebody@example.org", "password": "sesame"})
    )
    for name in ("", "somebody@example.org"):  # half an account, and a whole one
        monkeypatch.setenv(credentials.USERNAME, name)
        told = CliRunner().invoke(app, ["doctor", "--params", str(PARAMS_FILE)]).output
        assert "postgresql://***@db.example/mlflow" in told
        assert "CITYSCAPES_PASSWORD" in told
        assert "sesame" not in told
        assert "somebody" not in told


def test_an_account_is_missing_where_one_is_needed(source: Path, tmp_path: Path) -> None:
    """With the site as source, and its packages not here, the doctor asks for an account."""
    params = changed(tmp_path, "download", source="cityscapes", site="http://127.0.0.1:9")
    told = mistakes(params)
    assert any("no Cityscapes account: set CITYSCAPES_USERNAME" in one for one in told)
    assert any("http://127.0.0.1:9 does not answer" in one for one in told)


@pytest.mark.parametrize("variable", ["MLFLOW_TRACKING_URI", "PREFECT_API_URL"])
def test_a_server_that_does_not_answer_is_told(
    source: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """A dead address is to be mended, and the message says how."""
    monkeypatch.setenv(variable, "http://127.0.0.1:9/api")
    (told,) = mistakes()
    assert f"http://127.0.0.1:9/api does not answer: start it, or unset {variable}" in told


def test_a_hub_that_does_not_answer_is_told(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked only where the parameters want something of it."""
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert [] == mistakes()
    (told,) = mistakes(changed(tmp_path, "pretrained", source="hub"))
    assert "pytorch_model.bin of nvidia/mit-b0 is not in the cache" in told


def test_an_empty_source_folder_is_told(source: Path, tmp_path: Path) -> None:
    """A folder that the parameters name and that holds nothing is to be mended."""
    (tmp_path / "empty").mkdir()
    params = changed(tmp_path, "download", source="folder", folder=str(tmp_path / "empty"))
    (told,) = mistakes(params)
    assert f"download.folder: {tmp_path / 'empty'} is missing or empty" in told


def test_weights_that_are_not_there_are_told(source: Path, tmp_path: Path) -> None:
    """A file of starting weights that the parameters name must lie there."""
    params = changed(tmp_path, "pretrained", source="file", file=str(tmp_path / "mit.pth"))
    (told,) = mistakes(params)
    assert f"pretrained.file: {tmp_path / 'mit.pth'} is missing" in told


def test_runs_that_mlflow_lacks_are_told(source: Path, tmp_path: Path) -> None:
    """What nobody writes any more waits for `sync`; what a training writes does not."""
    Journal.create(tmp_path / "tracking", "ce-0").close()
    with closing(Journal.create(tmp_path / "tracking", "dice-0")):
        (told,) = mistakes()
    assert "MLflow lacks something of a run: `python -m pipeline sync` sends it" == told


def test_git_without_a_name_is_told(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an identity `dvc exp` fails, so the doctor says so first."""
    monkeypatch.delenv("GIT_AUTHOR_NAME", raising=False)
    for variable in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(variable, "/dev/null")
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    (told,) = mistakes()
    assert "`dvc exp` needs it" in told


@pytest.mark.parametrize(("is_well", "expected"), [(True, 0), (False, 1)])
def test_the_exit_code(source: Path, tree: Path, is_well: bool, expected: int) -> None:
    """0 where all is well, 1 where something is to be mended; the last line says which."""
    if not is_well:
        next(tree.rglob("*leftImg8bit.png")).unlink()
    done = CliRunner().invoke(app, ["doctor", "--params", str(PARAMS_FILE)])
    assert expected == done.exit_code
    assert ("all is well" if is_well else "1 thing to mend") == done.output.splitlines()[-1]
