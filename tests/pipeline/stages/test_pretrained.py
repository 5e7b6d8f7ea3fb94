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


def stored(path: Path, name: str) -> Path:
    """A checkpoint as the source called `name` writes it, with random numbers."""
    shapes = json.loads((LISTS / f"{name}.json").read_text())
    torch.save({key: torch.randn(shape) for key, shape in shapes.items()}, path)
    return path


def sum_of(path: Path) -> str:
    """The sha256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """An ImageNet checkpoint as the original repository writes it, with random numbers."""
    return stored(tmp_path / "b0.pth", "original_imagenet_b0")


@pytest.fixture
def own_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A running hub of our own, and an empty cache."""
    hub = FakeHub()
    with serve_hub(hub, tmp_path / "cache", monkeypatch):
        yield hub


@pytest.fixture
def on_hub(own_hub: FakeHub, tmp_path: Path) -> Path:
    """What it serves: an encoder with Hugging Face's names and random numbers."""
    path = stored(tmp_path / "mit-b0.bin", "hugging_face_mit_b0")
    own_hub.content = path.read_bytes()
    return path


def params(file: Path, sha256: str | None = None) -> Pretrained:
    """The section that names a file, by default with its right sum."""
    return section(source="file", file=str(file), sha256=sha256 or sum_of(file))


def from_hub(sha256: str | None, **others: Any) -> Pretrained:
    """The section that names the file on our own hub."""
    place = {"repository": "nvidia/mit-b0", "revision": COMMIT, "filename": "pytorch_model.bin"}
    return section(source="hub", sha256=sha256, **(place | others))


def section(**values: Any) -> Pretrained:
    """A section of which only some parameters are given."""
    return Pretrained(**(NOTHING | values))


def test_none_leaves_no_weights(tmp_path: Path) -> None:
    """For `none` there are no weights, and a note that says so."""
    told = fetch_pretrained(section(), out=tmp_path / "out")
    assert "the encoder starts from random weights" == told
    assert not (tmp_path / "out" / ENCODER_FILE).exists()
    assert {"source": "none"} == json.loads((tmp_path / "out" / "weights.json").read_text())


def test_a_file_gives_the_encoder(checkpoint: Path, tmp_path: Path) -> None:
    """What is written fills an encoder strictly, with the numbers of the file."""
    assert "original ImageNet" in fetch_pretrained(params(checkpoint), out=tmp_path / "out")
    encoder = Encoder(get_variant("b0"))
    load_encoder(encoder, tmp_path / "out" / ENCODER_FILE)
    numbers = torch.load(checkpoint, weights_only=True)
    expected = numbers["patch_embed1.proj.weight"]
    assert torch.equal(expected, encoder.stages[0].patch.projection.weight)


def test_another_file_than_the_sum_says_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    """A wrong sum is told with the right one, and nothing is written."""
    right = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    with pytest.raises(ValueError, match=rf"has the SHA-256 {right}, not {'0' * 64}"):
        fetch_pretrained(params(checkpoint, "0" * 64), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """A file that is not there is told with its whole path."""
    missing = section(source="file", file=str(tmp_path / "none.pth"), sha256="0" * 64)
    with pytest.raises(ValueError, match=r"none\.pth is missing"):
        fetch_pretrained(missing, out=tmp_path / "out")


def test_a_file_without_a_sum_is_refused() -> None:
    """DVC cannot see a file outside the project: its sum is not optional."""
    _, mistakes = Pretrained.parse("pretrained", NOTHING | {"source": "file", "file": "x"})
    assert ["pretrained: file and sha256 must be set when source is file"] == mistakes


def test_the_hub_gives_the_encoder(on_hub: Path, tmp_path: Path) -> None:
    """What is written fills an encoder strictly, with the numbers of the file on the hub."""
    told = fetch_pretrained(from_hub(sum_of(on_hub)), out=tmp_path / "out")
    assert told.startswith("the encoder starts from nvidia/mit-b0 (Hugging Face, b0); license: ")
    encoder = Encoder(get_variant("b0"))
    load_encoder(encoder, tmp_path / "out" / ENCODER_FILE)
    numbers = torch.load(on_hub, weights_only=True)
    expected = numbers["segformer.encoder.patch_embeddings.0.proj.weight"]
    assert torch.equal(expected, encoder.stages[0].patch.projection.weight)


def test_where_the_weights_came_from_is_kept(on_hub: Path, tmp_path: Path) -> None:
    """weights.json names the pin, the format, the variant and the licence, told once."""
    told = fetch_pretrained(from_hub(sum_of(on_hub)), out=tmp_path / "out")
    assert {
        "source": "hub",
        "repository": "nvidia/mit-b0",
        "revision": COMMIT,
        "filename": "pytorch_model.bin",
        "sha256": sum_of(on_hub),
        "format": "Hugging Face",
        "variant": "b0",
        "license": LICENSE,
    } == json.loads((tmp_path / "out" / "weights.json").read_text())
    assert 1 == told.count("non-commercial")
    assert LICENSE == read_license(tmp_path / "out")


def test_the_licence_of_a_file_of_ones_own_is_unknown(checkpoint: Path, tmp_path: Path) -> None:
    """Of a file with another sum than NVIDIA's nothing is claimed, nor of random weights."""
    assert "license" not in fetch_pretrained(params(checkpoint), out=tmp_path / "out")
    assert read_license(tmp_path / "out") is None
    fetch_pretrained(section(), out=tmp_path / "none")
    assert read_license(tmp_path / "none") is None
    assert read_license(tmp_path / "nowhere") is None


def test_the_same_file_by_hand_gives_the_same_encoder(on_hub: Path, tmp_path: Path) -> None:
    """Who follows the message and brings the file by hand ends with the same bytes."""
    fetch_pretrained(from_hub(sum_of(on_hub)), out=tmp_path / "hub")
    fetch_pretrained(params(on_hub), out=tmp_path / "file")
    fetched, brought = (load_file(tmp_path / way / ENCODER_FILE) for way in ("hub", "file"))
    assert fetched.keys() == brought.keys()
    assert all(torch.equal(tensor, brought[name]) for name, tensor in fetched.items())


def test_another_file_on_the_hub_than_the_sum_says_is_refused(on_hub: Path, tmp_path: Path) -> None:
    """A wrong sum is told with the right one, and nothing is written."""
    with pytest.raises(ValueError, match=rf"has the SHA-256 {sum_of(on_hub)}, not {'0' * 64}: delete "):
        fetch_pretrained(from_hub("0" * 64), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_damaged_cache_is_healed_as_the_message_says(on_hub: Path, tmp_path: Path) -> None:
    """Deleting the file that is named makes the next run fetch it again."""
    fetch_pretrained(from_hub(sum_of(on_hub)), out=tmp_path / "out")
    (blob,) = (tmp_path / "cache").glob("models--*/blobs/*")
    blob.write_bytes(b"damaged")
    with pytest.raises(ValueError, match="delete ") as caught:
        fetch_pretrained(from_hub(sum_of(on_hub)), out=tmp_path / "out")
    Path(str(caught.value).partition("delete ")[2].partition(" ")[0]).unlink()
    fetch_pretrained(from_hub(sum_of(on_hub)), out=tmp_path / "out")


def test_an_unknown_sum_is_told(on_hub: Path, tmp_path: Path) -> None:
    """Without a sum, the message names the sum of what arrived, and nothing is written."""
    unknown = from_hub(None, repository="someone/mit-b0")
    page = f"https://huggingface.co/someone/mit-b0/blob/{COMMIT}/pytorch_model.bin"
    with pytest.raises(ValueError, match=f"has the SHA-256 {sum_of(on_hub)}; compare it with {page}"):
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
def test_a_half_changed_pin_is_told_with_the_whole_one(changes: dict[str, Any]) -> None:
    """Who changes the repository alone is told the other three parameters, before a download."""
    shipped = load.load_config(PARAMS_FILE).pretrained.model_dump()
    _, (mistake,) = Pretrained.parse("pretrained", shipped | {"source": "hub"} | changes)
    assert mistake.startswith("pretrained: ")
    assert mistake.endswith(
        f"; for nvidia/mit-b3 write revision: {B3.revision}, filename: pytorch_model.bin,"
        f" sha256: {B3.sha256}"
    )


@pytest.mark.parametrize("name", ["repository", "revision", "filename"])
def test_a_pin_needs_a_place(name: str) -> None:
    """Repository, revision and file have to be named."""
    place = {"repository": "someone/mit", "revision": COMMIT, "filename": "model.safetensors"}
    values = NOTHING | place | {"source": "hub"}
    assert [] == Pretrained.parse("pretrained", values)[1]
    _, mistakes = Pretrained.parse("pretrained", values | {name: None})
    assert [
        "pretrained: repository, revision, filename and sha256 must be set when source is hub"
    ] == mistakes


def test_a_branch_is_no_revision() -> None:
    """`main` may hold other weights tomorrow: only a whole commit is a revision."""
    _, (mistake,) = Pretrained.parse("pretrained", NOTHING | {"revision": "main"})
    assert mistake.startswith("pretrained.revision: ")


def test_as_shipped_only_the_source_is_to_change(tmp_path: Path) -> None:
    """params.yaml names B0, which `source: hub` then fetches."""
    changed = write_changed_params(tmp_path, ("source: none ", "source: hub "))
    assert B0 == load.load_config(changed).pretrained.pin()


def test_the_command_is_quiet_and_asks_for_nothing_else(
    on_hub: Path, own_hub: FakeHub, tmp_path: Path
) -> None:
    """With all settings from the environment: one line out, and no request but for the file."""
    changed = write_changed_params(
        tmp_path,
        ("source: none ", "source: hub "),
        (B0.revision, COMMIT),
        (str(B0.sha256), sum_of(on_hub)),
    )
    own_hub.requests.clear()
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "pretrained", "--params", changed, "--out", "out"],
        cwd=tmp_path,
        env=os.environ
        | {"HF_ENDPOINT": own_hub.url, "HF_HOME": str(tmp_path), "DVC_ROOT": str(tmp_path)}
        | {"PYTHONPATH": str(PARAMS_FILE.parent), "HF_HUB_OFFLINE": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    told = f"the encoder starts from nvidia/mit-b0 (Hugging Face, b0); license: {LICENSE}\n"
    assert (0, told, "") == (done.returncode, done.stdout, done.stderr)
    place = f"/nvidia/mit-b0/resolve/{COMMIT}/pytorch_model.bin"
    assert [("HEAD", place), ("GET", place)] == [asked[:2] for asked in own_hub.requests]
    assert not any("torch" in headers["user-agent"] for _, _, headers in own_hub.requests)
