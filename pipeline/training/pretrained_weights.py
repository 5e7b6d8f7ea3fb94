"""The folder of starting weights: what `pretrained` leaves there and `train` reads."""

import json
from pathlib import Path
from typing import Any

ENCODER_FILE = "encoder.safetensors"
METADATA_FILE = "weights.json"


def read_license(folder: Path) -> str | None:
    """The licence of the weights that this stage left in `folder`; None if it is not known."""
    path = folder / METADATA_FILE
    facts: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return facts.get("license")
