import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pipeline.download.hub import LICENSE
from pipeline.params import load
from pipeline.params.pretrained import PINS, Pretrained
from pipeline.stages.pretrained import fetch_pretrained
from pipeline.training.pretrained_weights import ENCODER_FILE, read_license
from segformer.model.encoder import Encoder
from segformer.model.variants import get_variant
from segformer.weights.interop import load_encoder
from tests.fakes.hub import COMMIT, FakeHub, serve_hub
from tests.pipeline.conftest import PARAMS_FILE, write_changed_params

LISTS = Path(__file__).parents[2] / "segformer" / "state_dicts"
B0, B3 = PINS["nvidia/mit-b0"], PINS["nvidia/mit-b3"]
NOTHING = {
    "source": "none",
    "file": None,
    "repository": None,
    "revision": None,
    "filename": None,
    "sha256": None,
}


def write_checkpoint(path: Path, name: str) -> Path:
    """Write a checkpoint of random numbers with the keys and shapes of the list `name`."""
    shapes = json.loads((LISTS / f"{name}.json").read_text())
    torch.save({key: torch.randn(shape) for key, shape in shapes.items()}, path)
    return path


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """An ImageNet checkpoint in the format of the original repository, with random numbers."""
    return write_checkpoint(tmp_path / "b0.pth", "original_imagenet_b0")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A running fake hub, and an empty cache."""
    server = FakeHub()
    with serve_hub(server, tmp_path / "cache", monkeypatch):
        yield server


@pytest.fixture
def hub_file(hub: FakeHub, tmp_path: Path) -> Path:
    """The file on the hub: an encoder in the Hugging Face format with random numbers."""
    path = write_checkpoint(tmp_path / "mit-b0.bin", "hugging_face_mit_b0")
    hub.content = path.read_bytes()
    return path


def from_file(file: Path, sha256: str | None = None) -> Pretrained:
    """Make a section for a file, by default with its SHA-256."""
    return section(source="file", file=str(file), sha256=sha256 or sha256_of(file))


def from_hub(sha256: str | None, **others: Any) -> Pretrained:
    """Make a section for the file on the fake hub."""
    place = {"repository": "nvidia/mit-b0", "revision": COMMIT, "filename": "pytorch_model.bin"}
    return section(source="hub", sha256=sha256, **(place | others))


def section(**values: Any) -> Pretrained:
    """Make a section with the given parameters, the others null."""
    return Pretrained(**(NOTHING | values))


def test_source_none_writes_no_weights(tmp_path: Path) -> None:
    """With source `none` there are no weights, and the message says so."""
    message = fetch_pretrained(section(), out=tmp_path / "out")
    assert "the encoder starts from random weights" == message
    assert not (tmp_path / "out" / ENCODER_FILE).exists()
    assert {"source": "none"} == json.loads((tmp_path / "out" / "weights.json").read_text())


def test_weights_from_a_file(checkpoint: Path, tmp_path: Path) -> None:
    """The written weights load strictly into an encoder, with the values of the file."""
    assert "original ImageNet" in fetch_pretrained(from_file(checkpoint), out=tmp_path / "out")
    encoder = Encoder(get_variant("b0"))
    load_encoder(encoder, tmp_path / "out" / ENCODER_FILE)
    numbers = torch.load(checkpoint, weights_only=True)
    expected = numbers["patch_embed1.proj.weight"]
    assert torch.equal(expected, encoder.stages[0].patch.projection.weight)


def test_file_with_another_sha256_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    """The message has both SHA-256 sums, and nothing is written."""
    actual = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    with pytest.raises(ValueError, match=rf"has the SHA-256 {actual}, not {'0' * 64}"):
        fetch_pretrained(from_file(checkpoint, "0" * 64), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_missing_file_is_refused(tmp_path: Path) -> None:
    """A missing file is named."""
    missing = section(source="file", file=str(tmp_path / "none.pth"), sha256="0" * 64)
    with pytest.raises(ValueError, match=r"none\.pth is missing"):
        fetch_pretrained(missing, out=tmp_path / "out")


def test_file_without_sha256_is_refused() -> None:
    """The SHA-256 of a file is required, since DVC does not track files outside the project."""
    _, problems = Pretrained.parse("pretrained", NOTHING | {"source": "file", "file": "x"})
    assert ["pretrained: file and sha256 must be set when source is file"] == problems


def test_weights_from_the_hub(hub_file: Path, tmp_path: Path) -> None:
    """The written weights load strictly into an encoder, with the values of the hub's file."""
    message = fetch_pretrained(from_hub(sha256_of(hub_file)), out=tmp_path / "out")
    assert message.startswith("the encoder starts from nvidia/mit-b0 (Hugging Face, b0); license: ")
    encoder = Encoder(get_variant("b0"))
    load_encoder(encoder, tmp_path / "out" / ENCODER_FILE)
    numbers = torch.load(hub_file, weights_only=True)
    expected = numbers["segformer.encoder.patch_embeddings.0.proj.weight"]
    assert torch.equal(expected, encoder.stages[0].patch.projection.weight)


def test_source_of_the_weights_is_recorded(hub_file: Path, tmp_path: Path) -> None:
    """weights.json has pin, format, variant and license; the message has the license once."""
    message = fetch_pretrained(from_hub(sha256_of(hub_file)), out=tmp_path / "out")
    assert {
        "source": "hub",
        "repository": "nvidia/mit-b0",
        "revision": COMMIT,
        "filename": "pytorch_model.bin",
        "sha256": sha256_of(hub_file),
        "format": "Hugging Face",
        "variant": "b0",
        "license": LICENSE,
    } == json.loads((tmp_path / "out" / "weights.json").read_text())
    assert 1 == message.count("non-commercial")
    assert LICENSE == read_license(tmp_path / "out")


def test_license_of_other_files_is_unknown(checkpoint: Path, tmp_path: Path) -> None:
    """Files with another SHA-256 than NVIDIA's, and random weights, have no known license."""
    assert "license" not in fetch_pretrained(from_file(checkpoint), out=tmp_path / "out")
    assert read_license(tmp_path / "out") is None
    fetch_pretrained(section(), out=tmp_path / "none")
    assert read_license(tmp_path / "none") is None
    assert read_license(tmp_path / "nowhere") is None


def test_file_and_hub_give_the_same_weights(hub_file: Path, tmp_path: Path) -> None:
    """The same file gives the same weights with source `file` and source `hub`."""
    fetch_pretrained(from_hub(sha256_of(hub_file)), out=tmp_path / "hub")
    fetch_pretrained(from_file(hub_file), out=tmp_path / "file")
    from_hub_file, from_disk = (
        load_file(tmp_path / name / ENCODER_FILE) for name in ("hub", "file")
    )
    assert from_hub_file.keys() == from_disk.keys()
    assert all(torch.equal(tensor, from_disk[name]) for name, tensor in from_hub_file.items())


def test_hub_file_with_another_sha256_is_refused(hub_file: Path, tmp_path: Path) -> None:
    """The message has both SHA-256 sums, and nothing is written."""
    with pytest.raises(
        ValueError, match=rf"has the SHA-256 {sha256_of(hub_file)}, not {'0' * 64}: delete "
    ):
        fetch_pretrained(from_hub("0" * 64), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_damaged_cache_is_repaired_as_the_message_says(hub_file: Path, tmp_path: Path) -> None:
    """After the named file is deleted, the next run fetches it again."""
    fetch_pretrained(from_hub(sha256_of(hub_file)), out=tmp_path / "out")
    (blob,) = (tmp_path / "cache").glob("models--*/blobs/*")
    blob.write_bytes(b"damaged")
    with pytest.raises(ValueError, match="delete ") as caught:
        fetch_pretrained(from_hub(sha256_of(hub_file)), out=tmp_path / "out")
    Path(str(caught.value).partition("delete ")[2].partition(" ")[0]).unlink()
    fetch_pretrained(from_hub(sha256_of(hub_file)), out=tmp_path / "out")


def test_hub_file_without_sha256_is_refused(hub_file: Path, tmp_path: Path) -> None:
    """The message has the SHA-256 of the fetched file, and nothing is written."""
    unknown = from_hub(None, repository="someone/mit-b0")
    page = f"https://huggingface.co/someone/mit-b0/blob/{COMMIT}/pytorch_model.bin"
    with pytest.raises(
        ValueError, match=f"has the SHA-256 {sha256_of(hub_file)}; compare it with {page}"
    ):
        fetch_pretrained(unknown, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"repository": B3.repository},
        {"repository": B3.repository, "revision": B3.revision},
        {"repository": B3.repository, "revision": None},
        {"repository": B3.repository, "filename": None},
        {"repository": B3.repository, "revision": B3.revision, "sha256": None},
    ],
)
def test_partly_changed_pin_is_refused_with_the_whole_pin(changes: dict[str, Any]) -> None:
    """If only part of the pin is changed, the message has the other values, before a download."""
    shipped = load.load_config(PARAMS_FILE).pretrained.model_dump()
    _, (problem,) = Pretrained.parse("pretrained", shipped | {"source": "hub"} | changes)
    assert problem.startswith("pretrained: ")
    assert problem.endswith(
        f"; for nvidia/mit-b3 write revision: {B3.revision}, filename: pytorch_model.bin,"
        f" sha256: {B3.sha256}"
    )


@pytest.mark.parametrize("name", ["repository", "revision", "filename"])
def test_pin_needs_repository_revision_and_filename(name: str) -> None:
    """Repository, revision and file name are required."""
    place = {"repository": "someone/mit", "revision": COMMIT, "filename": "model.safetensors"}
    values = NOTHING | place | {"source": "hub"}
    assert [] == Pretrained.parse("pretrained", values)[1]
    _, problems = Pretrained.parse("pretrained", values | {name: None})
    assert [
        "pretrained: repository, revision, filename and sha256 must be set when source is hub"
    ] == problems


def test_branch_is_not_a_revision() -> None:
    """A revision must be a full commit, since the weights of a branch may change."""
    _, (problem,) = Pretrained.parse("pretrained", NOTHING | {"revision": "main"})
    assert problem.startswith("pretrained.revision: ")


def test_shipped_parameters_pin_b0(tmp_path: Path) -> None:
    """With `source: hub` as the only change, params.yaml fetches B0."""
    changed = write_changed_params(tmp_path, ("source: none ", "source: hub "))
    assert B0 == load.load_config(changed).pretrained.pin()


def test_command_prints_one_line_and_requests_one_file(
    hub_file: Path, hub: FakeHub, tmp_path: Path
) -> None:
    """With settings from the environment, the command prints one line and requests one file."""
    changed = write_changed_params(
        tmp_path,
        ("source: none ", "source: hub "),
        (B0.revision, COMMIT),
        (str(B0.sha256), sha256_of(hub_file)),
    )
    hub.requests.clear()
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "pretrained", "--params", changed, "--out", "out"],
        cwd=tmp_path,
        env=os.environ
        | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path), "DVC_ROOT": str(tmp_path)}
        | {"PYTHONPATH": str(PARAMS_FILE.parent), "HF_HUB_OFFLINE": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    message = f"the encoder starts from nvidia/mit-b0 (Hugging Face, b0); license: {LICENSE}\n"
    assert (0, message, "") == (done.returncode, done.stdout, done.stderr)
    path = f"/nvidia/mit-b0/resolve/{COMMIT}/pytorch_model.bin"
    assert [("HEAD", path), ("GET", path)] == [request[:2] for request in hub.requests]
    assert not any("torch" in headers["user-agent"] for _, _, headers in hub.requests)
