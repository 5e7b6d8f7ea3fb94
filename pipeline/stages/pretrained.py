"""Pretrained: bring the encoder's starting weights, checked and under our names, or none."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import StringConstraints, model_validator
from safetensors.torch import save_file

from pipeline import hub
from pipeline.root import project_root
from pipeline.section import Section
from pipeline.starting_weights import ENCODER_FILE, METADATA_FILE
from segformer import interop
from segformer.atomic import replacing


class Pretrained(Section):
    """Where the encoder's starting weights come from."""

    source: Literal["none", "file", "hub"]
    file: str | None
    """For `file`: a checkpoint in any format that segformer.interop reads."""
    repository: Annotated[str, StringConstraints(pattern=r"^[\w.-]+/[\w.-]+$")] | None
    """For `hub`: owner and name."""
    revision: Annotated[str, StringConstraints(pattern="^[0-9a-f]{40}$")] | None
    """For `hub`: a commit, because a branch may hold other weights tomorrow."""
    filename: str | None
    """For `hub`: the file within the repository."""
    sha256: Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")] | None
    """Of the file: DVC cannot see outside the project, this sum tells it what it depends on."""

    @model_validator(mode="after")
    def _check_file(self) -> Self:
        if self.source == "file" and not (self.file and self.sha256):
            raise ValueError("source is file, so file and sha256 must name one")
        return self

    @model_validator(mode="after")
    def _check_pin(self) -> Self:
        if self.source != "hub":
            return self
        known = hub.PINS.get(self.repository or "")
        missing = not (self.repository and self.revision and self.filename)
        # The sum of an unknown file may be left out: the stage then tells it.
        if missing or (known and self.sha256 is None):
            raise ValueError(
                "source is hub, so repository, revision, filename and sha256 must name a file"
                + _describe_pin(known)
            )
        others = {value for pin in hub.PINS.values() if pin != known for value in _pin_values(pin)}
        if known and others & {self.revision, self.sha256}:
            raise ValueError("revision or sha256 is another repository's" + _describe_pin(known))
        return self

    def pin(self) -> hub.Pin:
        """The file on the hub that the parameters name."""
        assert self.repository is not None
        assert self.revision is not None
        assert self.filename is not None
        return hub.Pin(self.repository, self.revision, self.filename, self.sha256)


def fetch_pretrained(params: Pretrained, *, out: Path) -> str:
    """Write encoder.safetensors, unless the source is `none`, and weights.json into `out`.

    Returns:
        A sentence about what was read and, where it is known, under which licence.

    Raises:
        ValueError: if the file is missing, out of reach, another than its sum says, or in no known
            format.
    """
    if params.source == "none":
        with _write_folder(out, {"source": "none"}):
            return "the encoder starts from random weights"
    file, where = _fetch_from_hub(params.pin()) if params.source == "hub" else _find_on_disk(params)
    _check_sha256(file, params)
    weights = interop.read(file)
    terms = hub.find_license(params.sha256, where.get("repository"))
    facts = {
        "source": params.source,
        **where,
        "sha256": params.sha256,
        "format": weights.format,
        "variant": weights.variant,
        "license": terms,
    }
    with _write_folder(out, facts) as part:
        save_file(weights.encoder, part / ENCODER_FILE, metadata={"format": "pt"})
    name = where.get("repository", file.name)
    told = f"the encoder starts from {name} ({weights.format}, {weights.variant})"
    return f"{told}; licence: {terms}" if terms else told


def _fetch_from_hub(pin: hub.Pin) -> tuple[Path, dict[str, str]]:
    facts = {"repository": pin.repository, "revision": pin.revision, "filename": pin.filename}
    return hub.download(pin), facts


def _find_on_disk(params: Pretrained) -> tuple[Path, dict[str, str]]:
    assert params.file is not None
    file = project_root() / params.file
    if not file.is_file():
        raise ValueError(f"pretrained.file: {file.resolve()} is missing")
    return file, {"file": file.name}


def _check_sha256(file: Path, params: Pretrained) -> None:
    with file.open("rb") as content:
        sha256 = hashlib.file_digest(content, "sha256").hexdigest()
    if params.sha256 is None:
        page = params.pin().url.replace("/resolve/", "/blob/")
        raise ValueError(
            f"pretrained.sha256: what arrived has the sum {sha256}; compare it with {page}, and"
            " write it into params.yaml if it is the same"
        )
    if sha256 != params.sha256:
        # A blob that was damaged in the cache would be taken from there for ever.
        again = f"delete {file.resolve()}" if params.source == "hub" else "fetch the right file"
        raise ValueError(
            f"pretrained.sha256: {file} has the sum {sha256}, not {params.sha256}: {again} and run"
            " anew, or write this sum if this is the file you mean"
        )


def _pin_values(pin: hub.Pin) -> tuple[str | None, ...]:
    return pin.revision, pin.sha256


def _describe_pin(pin: hub.Pin | None) -> str:
    if pin is None:
        return ""
    return (
        f"; for {pin.repository} write revision: {pin.revision},"
        f" filename: {pin.filename}, sha256: {pin.sha256}"
    )


@contextmanager
def _write_folder(out: Path, facts: dict[str, Any]) -> Iterator[Path]:
    with replacing(out) as part:
        part.mkdir()
        # Also where there are no weights: DVC warns of an empty folder at every command.
        (part / METADATA_FILE).write_text(json.dumps(facts, indent=2) + "\n")
        yield part
