"""Pretrained: bring the encoder's starting weights, checked and under our names, or none."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import StringConstraints, model_validator
from safetensors.torch import save_file

from pipeline.root import project_root
from pipeline.section import Section
from segformer import interop
from segformer.atomic import replacing

ENCODER = "encoder.safetensors"


class Pretrained(Section):
    """Where the encoder's starting weights come from."""

    source: Literal["none", "file"]
    file: str | None
    """For `file`: a checkpoint in any format that segformer.interop reads."""
    sha256: Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")] | None
    """Of that file: DVC cannot see outside the project, this sum tells it what it depends on."""

    @model_validator(mode="after")
    def _file_is_named(self) -> Self:
        if self.source == "file" and not (self.file and self.sha256):
            raise ValueError("source is file, so file and sha256 must name one")
        return self


def run(params: Pretrained, *, out: Path) -> str:
    """Write encoder.safetensors, unless the source is `none`, and weights.json into `out`.

    Returns:
        A sentence about what was read.

    Raises:
        ValueError: if the file is missing, another than its sum says, or in no known format.
    """
    if params.source == "none":
        with _folder(out, {"source": "none"}):
            return "the encoder starts from random weights"
    assert params.file is not None
    file = project_root() / params.file
    if not file.is_file():
        raise ValueError(f"pretrained.file: {file.resolve()} is missing")
    with file.open("rb") as content:
        sha256 = hashlib.file_digest(content, "sha256").hexdigest()
    if sha256 != params.sha256:
        raise ValueError(
            f"pretrained.sha256: {file} has the sum {sha256}, not {params.sha256}: fetch the right"
            " file, or write this sum if this is the file you mean"
        )
    weights = interop.read(file)
    facts = {"source": "file", "file": file.name, "sha256": sha256, "format": weights.format}
    with _folder(out, facts) as part:
        save_file(weights.encoder, part / ENCODER, metadata={"format": "pt"})
    return f"the encoder starts from {file.name} ({weights.format})"


@contextmanager
def _folder(out: Path, facts: dict[str, str]) -> Iterator[Path]:
    with replacing(out) as part:
        part.mkdir()
        # Also where there are no weights: DVC warns of an empty folder at every command.
        (part / "weights.json").write_text(json.dumps(facts, indent=2) + "\n")
        yield part
