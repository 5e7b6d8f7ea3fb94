"""Fetch the encoder's pretrained weights, verify them and convert their names; or use none."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from pipeline.download import hub
from pipeline.params.pretrained import Pin, Pretrained
from pipeline.paths import project_root
from pipeline.training.pretrained_weights import ENCODER_FILE, METADATA_FILE
from segformer.atomic import replacing
from segformer.weights import interop


def fetch_pretrained(params: Pretrained, *, out: Path) -> str:
    """Write encoder.safetensors, unless the source is `none`, and weights.json into `out`.

    Returns:
        A sentence about the source of the weights and, if known, their license.

    Raises:
        ValueError: if the file is missing, cannot be fetched, does not match its SHA-256, or has an
            unknown format.
    """
    if params.source == "none":
        with _write_folder(out, {"source": "none"}):
            return "the encoder starts from random weights"
    file, origin = (
        _fetch_from_hub(params.pin()) if params.source == "hub" else _find_on_disk(params)
    )
    _check_sha256(file, params)
    weights = interop.read(file)
    license_text = hub.find_license(params.sha256, origin.get("repository"))
    facts = {
        "source": params.source,
        **origin,
        "sha256": params.sha256,
        "format": weights.format,
        "variant": weights.variant,
        "license": license_text,
    }
    with _write_folder(out, facts) as part:
        save_file(weights.encoder, part / ENCODER_FILE, metadata={"format": "pt"})
    name = origin.get("repository", file.name)
    message = f"the encoder starts from {name} ({weights.format}, {weights.variant})"
    return f"{message}; license: {license_text}" if license_text else message


def _fetch_from_hub(pin: Pin) -> tuple[Path, dict[str, str]]:
    facts = {"repository": pin.repository, "revision": pin.revision, "filename": pin.filename}
    manual_step = (
        "set in params.yaml below pretrained: source: file, file: its path,"
        f" sha256: {pin.sha256 or 'its sha256'}"
    )
    return hub.fetch_file(pin, caller="pretrained", manual_step=manual_step), facts


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
            f"pretrained.sha256 is not set; the file has the SHA-256 {sha256}; compare it with"
            f" {page}, and write it into params.yaml if it is the same"
        )
    if sha256 != params.sha256:
        # A file damaged in the cache would be used from there for ever.
        remedy = f"delete {file.resolve()}" if params.source == "hub" else "fetch the right file"
        raise ValueError(
            f"pretrained.sha256: {file} has the SHA-256 {sha256}, not {params.sha256}: {remedy} and"
            " run again, or write this SHA-256 into params.yaml if it is the intended file"
        )


@contextmanager
def _write_folder(out: Path, facts: dict[str, Any]) -> Iterator[Path]:
    with replacing(out) as part:
        part.mkdir()
        # Written even without weights: DVC warns of an empty folder at every command.
        (part / METADATA_FILE).write_text(json.dumps(facts, indent=2) + "\n")
        yield part
