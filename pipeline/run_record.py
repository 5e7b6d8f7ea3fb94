"""Read and write run.json, the record of the run that trained a model."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segformer.atomic import write_text

RUN_RECORD_FILE = "run.json"


def read_run_facts(folder: Path) -> dict[str, Any]:
    """Read run.json of a trained arm.

    Args:
        folder: the folder of the arm, `data/train/ce-0`.

    Returns:
        `loss`, `seed`, `steps`, and the facts that the command line adds, such as `mlflow_run_id`
        and `run_key`.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it is not JSON.
    """
    facts: dict[str, Any] = json.loads((folder / RUN_RECORD_FILE).read_text())
    return facts


def write_run_facts(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write run.json into the folder of a trained arm, whole or not at all."""
    write_text(folder / RUN_RECORD_FILE, json.dumps(dict(facts), indent=2) + "\n")
