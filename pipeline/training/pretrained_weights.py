"""The files of pretrained weights that the stage `pretrained` writes and `train` reads."""

import json
from pathlib import Path
from typing import Any

ENCODER_FILE = "encoder.safetensors"
METADATA_FILE = "weights.json"


def read_license(folder: Path) -> str | None:
    """Read the license of the pretrained weights in `folder`; None if it is unknown."""
    path = folder / METADATA_FILE
    facts: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return facts.get("license")
