import json
import os
import re
import shutil
import stat
import sys
from contextlib import closing
from pathlib import Path

import pytest
import torch
from ruamel.yaml import YAML
from typer.testing import CliRunner

import pipeline.doctor
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
def _healthy_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Configure a Git author and free disk space; no service, no account."""
    monkeypatch.setenv("GIT_AUTHOR_NAME", "somebody")
    usage = shutil._ntuple_diskusage(10**13, 0, 10**13)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
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
    """The source.json of a download from the tree, which is remapped too."""
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
    set_dvc_outputs(monkeypatch, raw / "source.json", remapped / "pixel_counts.csv")
    return raw / "source.json"


def set_dvc_outputs(monkeypatch: pytest.MonkeyPatch, *paths: Path) -> None:
    """Replace the query for output paths, which takes DVC a second."""
    by_name = {path.name: path for path in paths}
    monkeypatch.setattr(dvc, "find_outputs", lambda *names: {name: by_name[name] for name in names})


def write_params(folder: Path, section: str, /, **values: object) -> Path:
    """Write the project's parameters with changes to a section; return the path."""
    yaml = YAML()
    params = yaml.load(PARAMS_FILE)
    params[section] |= values
    yaml.dump(params, folder / "params.yaml")
    return folder / "params.yaml"


def failures(params: Path = PARAMS_FILE) -> list[str]:
    """Return the messages of the findings that are not ok."""
    return [finding.message for finding in examine.run_checks(params) if not finding.ok]


def test_no_problems(source: Path) -> None:
    """With the project's parameters and an unchanged source folder no check fails."""
    assert [] == failures()


def test_all_topics_are_checked(source: Path) -> None:
    """Machine, parameters, data and services are checked, grouped by topic."""
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
        "sample",
        "services",
        "credentials",
        "runs",
    ]
    assert expected == list(dict.fromkeys(topics))


def test_nothing_is_changed(source: Path, tmp_path: Path) -> None:
    """The checks write, remove or touch no file."""
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    examine.run_checks(PARAMS_FILE)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}


def test_changed_source_folder(source: Path, tree: Path) -> None:
    """A file removed from the source folder is named, with the command that updates the data."""
    removed = next(tree.rglob("*leftImg8bit.png"))
    removed.unlink()
    (message,) = failures()
    assert removed.name in message
    assert "update with `dvc repro --force download` or `segformer retrain`" in message


def test_invalid_parameters(source: Path, tmp_path: Path) -> None:
    """Each invalid parameter is a finding, and the data is checked nevertheless."""
    params = write_params(tmp_path, "train", steps=0, stpes=1)
    messages = failures(params)
    assert 2 == len(messages)
    assert any("did you mean train.steps?" in message for message in messages)
    assert any(finding.topic == "sample" for finding in examine.run_checks(params))


def test_full_disk(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Less free space than a run needs is a problem."""
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(9, 9, 0))
    (message,) = failures()
    assert re.search(r": free .* more, which includes a reserve", message)


def test_missing_data_before_the_first_run_is_ok(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the first run a finding says how to get the data, and no check fails."""
    set_dvc_outputs(monkeypatch, tmp_path / "source.json", tmp_path / "pixel_counts.csv")
    findings = examine.run_checks(PARAMS_FILE)
    assert any("`dvc repro` downloads or generates it" in finding.message for finding in findings)
    assert all(finding.ok for finding in findings)


def test_project_that_dvc_cannot_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC's error becomes a finding; the other checks run."""

    def fail(*names: str) -> None:
        raise ValueError("dvc.yaml is no YAML")

    monkeypatch.setattr(dvc, "find_outputs", fail)
    assert ["dvc.yaml is no YAML"] == failures()


def only_failure(topic: str, params: Path = PARAMS_FILE) -> str:
    """Return the message of the only failure, which has this topic; all other checks must run."""
    findings = examine.run_checks(params)
    assert {"environment", "device", "git", "services", "credentials"} <= {
        finding.topic for finding in findings
    }
    (failure,) = [finding for finding in findings if not finding.ok]
    assert topic == failure.topic
    return failure.message


def test_unreadable_source_record(source: Path) -> None:
    """The file is named with the reason; frames and labels are checked nevertheless."""
    source.unlink()
    source.mkdir()
    message = only_failure("raw data")
    assert f"{source} cannot be read (Is a directory): " in message
    assert any(finding.topic == "sample" for finding in examine.run_checks(PARAMS_FILE))


@pytest.mark.parametrize("content", ["[]", '{"source": "folder"}', '{"source": "fol', "\0\xff"])
def test_damaged_source_record(source: Path, content: str) -> None:
    """For any invalid source.json the message has the command that restores it."""
    source.unlink()
    source.write_bytes(content.encode("latin-1"))
    assert f"{source} is damaged: `dvc repro --force download`" == only_failure("raw data")


def test_unreadable_zip(source: Path) -> None:
    """A socket in place of the zip, which cannot be opened, is named."""
    path = source.parent / IMAGE_ZIP
    path.unlink()
    os.mknod(path, stat.S_IFSOCK)
    assert f"{path} cannot be read (No such device or address)" in only_failure("raw data")


def test_unreadable_source_folder(source: Path, tmp_path: Path) -> None:
    """A path longer than the system allows fails the checks of the folder, and no others."""
    params = write_params(tmp_path, "download", source="folder", folder="x" * 300)
    topics = {finding.topic for finding in examine.run_checks(params) if not finding.ok}
    assert {"disk", "parameters"} == topics


def test_unreadable_parameters(source: Path, tmp_path: Path) -> None:
    """A folder in place of params.yaml is named."""
    assert f"{tmp_path} cannot be read (Is a directory)" in only_failure("parameters", tmp_path)


def test_package_that_cannot_be_imported(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken installation is a finding."""
    monkeypatch.setitem(sys.modules, "pipeline.doctor.data", None)
    monkeypatch.delattr(pipeline.doctor, "data", raising=False)
    assert "a package cannot be imported (" in only_failure("raw data")


def test_device_that_does_not_respond(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message has the first line of CUDA's error."""

    def fail() -> None:
        raise RuntimeError("CUDA error: unspecified launch failure\nFor debugging ...")

    monkeypatch.setattr(torch.cuda, "is_available", fail)
    assert "(CUDA error: unspecified launch failure)" in only_failure("device")


def test_leftovers_of_an_interrupted_download(source: Path) -> None:
    """Partial files and quarantined files are listed with their size."""
    raw = source.parent
    for name in (f"{IMAGE_ZIP}.download.part", f"{LABEL_ZIP}.bad", "source.json.part"):
        (raw / name).write_bytes(b"12345678901234567")
    findings = examine.run_checks(PARAMS_FILE)
    messages = "\n".join(finding.message for finding in findings)
    assert (
        f"{raw / IMAGE_ZIP}.download.part, 17 bytes: an interrupted download; the next" in messages
    )
    assert f"{raw / LABEL_ZIP}.bad, 17 bytes: a download with the wrong content, which" in messages
    assert f"{raw / 'source.json'}.part, 17 bytes: unfinished output of a killed stage" in messages
    assert all(finding.ok for finding in findings)


def test_leftovers_of_a_killed_stage(source: Path) -> None:
    """Other stages' folders are searched too: a partial `pack` may have 29 GB."""
    partial = source.parent.parent / "pack.part" / "train"
    partial.mkdir(parents=True)
    (partial / "images.npy").write_bytes(bytes(1500))
    messages = [finding.message for finding in examine.run_checks(PARAMS_FILE)]
    expected = f"{partial.parent}, 1.5 kB: unfinished output of a killed stage; delete it"
    assert 1 == sum(message.startswith(expected) for message in messages)


def test_damaged_zip_in_the_source_folder(source: Path, tmp_path: Path) -> None:
    """A zip whose directory is damaged is named, and the other checks run."""
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in (IMAGE_ZIP, LABEL_ZIP):
        shutil.copy(source.parent / name, folder / name)
    corrupt_zip_directory(folder / IMAGE_ZIP)
    params = write_params(tmp_path, "download", source="folder", folder=str(folder))
    message = only_failure("disk", params)
    assert f"{folder / IMAGE_ZIP} is not a complete zip file: download it again" in message


def test_missing_coarse_data(source: Path, tmp_path: Path) -> None:
    """If remap needs them, both zips are named with the command that restores them."""
    yaml = YAML()
    params = yaml.load(PARAMS_FILE)
    params["download"] |= {"source": "folder", "folder": str(tmp_path), "train_extra": True}
    params["remap"]["train_extra"] = True
    yaml.dump(params, tmp_path / "params.yaml")
    findings = examine.run_checks(tmp_path / "params.yaml")
    messages = [one.message for one in findings if one.topic == "raw data" and not one.ok]
    assert 2 == len(messages)
    for name, message in zip(("leftImg8bit_trainextra", "gtCoarse"), messages, strict=True):
        assert f"{name}.zip is missing: `dvc checkout` or `dvc repro --force download`" in message


def test_secrets_are_hidden(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The output has neither a service's password nor the account, wherever they are set."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:sesame@db.example/mlflow")
    monkeypatch.setenv("PREFECT_API_URL", "http://me:sesame@127.0.0.1:9/api")
    monkeypatch.setenv(credentials.PASSWORD, "sesame")
    (tmp_path / "credentials.json").write_text(
        json.dumps({"username": "somebody@example.org", "password": "sesame"})
    )
    for name in ("", "somebody@example.org"):  # password without and with a user name
        monkeypatch.setenv(credentials.USERNAME, name)
        output = CliRunner().invoke(app, ["doctor", "--params", str(PARAMS_FILE)]).output
        assert "postgresql://***@db.example/mlflow" in output
        assert "CITYSCAPES_PASSWORD" in output
        assert "sesame" not in output
        assert "somebody" not in output


def test_missing_account(source: Path, tmp_path: Path) -> None:
    """If packages must be downloaded from the site, a missing account is a problem."""
    params = write_params(tmp_path, "download", source="cityscapes", site="http://127.0.0.1:9")
    messages = failures(params)
    assert any("no Cityscapes account: set CITYSCAPES_USERNAME" in text for text in messages)
    assert any("http://127.0.0.1:9 does not respond" in text for text in messages)


@pytest.mark.parametrize("variable", ["MLFLOW_TRACKING_URI", "PREFECT_API_URL"])
def test_unreachable_server(source: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """An address that does not respond is a problem, and the message has the remedy."""
    monkeypatch.setenv(variable, "http://127.0.0.1:9/api")
    (message,) = failures()
    assert f"http://127.0.0.1:9/api does not respond: start it, or unset {variable}" in message


def test_unreachable_hub(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub is checked only if the parameters need a file from it."""
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert [] == failures()
    (message,) = failures(write_params(tmp_path, "pretrained", source="hub"))
    assert "pytorch_model.bin of nvidia/mit-b0 is not in the cache" in message


def test_empty_source_folder(source: Path, tmp_path: Path) -> None:
    """An empty source folder is a problem."""
    (tmp_path / "empty").mkdir()
    params = write_params(tmp_path, "download", source="folder", folder=str(tmp_path / "empty"))
    (message,) = failures(params)
    assert f"download.folder: {tmp_path / 'empty'} is missing or empty" in message


def test_missing_pretrained_weights(source: Path, tmp_path: Path) -> None:
    """A missing file of pretrained weights is a problem."""
    params = write_params(tmp_path, "pretrained", source="file", file=str(tmp_path / "mit.pth"))
    (message,) = failures(params)
    assert f"pretrained.file: {tmp_path / 'mit.pth'} is missing" in message


def test_pending_uploads(source: Path, tmp_path: Path) -> None:
    """Finished journals are pending until `sync`; the journal of a running training is not."""
    Journal.create(tmp_path / "tracking", "ce-0").close()
    with closing(Journal.create(tmp_path / "tracking", "dice-0")):
        (message,) = failures()
    assert "1 run is not completely uploaded to MLflow: run `segformer sync`" == message


def test_git_without_an_author(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing author, with which `dvc exp` fails, is a problem."""
    monkeypatch.delenv("GIT_AUTHOR_NAME", raising=False)
    for variable in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(variable, "/dev/null")
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    (message,) = failures()
    assert "no author configured, which `dvc exp` needs" in message


@pytest.mark.parametrize(("is_ok", "expected"), [(True, 0), (False, 1)])
def test_exit_code(source: Path, tree: Path, is_ok: bool, expected: int) -> None:
    """The exit code is 0 without problems and 1 with problems; the last line counts them."""
    if not is_ok:
        next(tree.rglob("*leftImg8bit.png")).unlink()
    result = CliRunner().invoke(app, ["doctor", "--params", str(PARAMS_FILE)])
    assert expected == result.exit_code
    assert ("no problems found" if is_ok else "1 problem found") == result.output.splitlines()[-1]
