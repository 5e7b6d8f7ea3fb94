import hashlib
import json
from pathlib import Path

import pytest
import torch

from pipeline.stages.pretrained import ENCODER, Pretrained, run
from segformer.encoder import Encoder
from segformer.interop import load_encoder
from segformer.variants import get_variant

NAMES = Path(__file__).parents[1] / "segformer" / "state_dicts" / "original_imagenet_b0.json"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """An ImageNet checkpoint as the original repository writes it, with random numbers."""
    shapes = json.loads(NAMES.read_text())
    torch.save({name: torch.randn(shape) for name, shape in shapes.items()}, tmp_path / "b0.pth")
    return tmp_path / "b0.pth"


def params(file: Path, sha256: str | None = None) -> Pretrained:
    """The section that names a file, by default with its right sum."""
    right = hashlib.sha256(file.read_bytes()).hexdigest()
    return Pretrained(source="file", file=str(file), sha256=sha256 or right)


def test_none_leaves_no_weights(tmp_path: Path) -> None:
    """For `none` there are no weights, and a note that says so."""
    told = run(Pretrained(source="none", file=None, sha256=None), out=tmp_path / "out")
    assert "the encoder starts from random weights" == told
    assert not (tmp_path / "out" / ENCODER).exists()
    assert {"source": "none"} == json.loads((tmp_path / "out" / "weights.json").read_text())


def test_a_file_gives_the_encoder(checkpoint: Path, tmp_path: Path) -> None:
    """What is written fills an encoder strictly, with the numbers of the file."""
    assert "original ImageNet" in run(params(checkpoint), out=tmp_path / "out")
    encoder = Encoder(get_variant("b0"))
    load_encoder(encoder, tmp_path / "out" / ENCODER)
    numbers = torch.load(checkpoint, weights_only=True)
    expected = numbers["patch_embed1.proj.weight"]
    assert torch.equal(expected, encoder.stages[0].patch.projection.weight)


def test_another_file_than_the_sum_says_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    """A wrong sum is told with the right one, and nothing is written."""
    right = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    with pytest.raises(ValueError, match=rf"has the sum {right}, not {'0' * 64}"):
        run(params(checkpoint, "0" * 64), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """A file that is not there is told with its whole path."""
    section = Pretrained(source="file", file=str(tmp_path / "none.pth"), sha256="0" * 64)
    with pytest.raises(ValueError, match=r"none\.pth is missing"):
        run(section, out=tmp_path / "out")


def test_a_file_without_a_sum_is_refused() -> None:
    """DVC cannot see a file outside the project: its sum is not optional."""
    _, mistakes = Pretrained.parse("pretrained", {"source": "file", "file": "x", "sha256": None})
    assert ["pretrained: source is file, so file and sha256 must name one"] == mistakes
