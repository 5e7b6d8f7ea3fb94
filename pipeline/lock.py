"""Reads dvc.lock: the sums of what the stages have written."""

from pathlib import Path

from ruamel.yaml import YAML

LOCK = Path("dvc.lock")


def output_md5(path: Path, lock: Path = LOCK) -> str | None:
    """DVC's md5 of a stage's output, None if no stage has written it under DVC."""
    if not lock.exists():
        return None
    stages = YAML(typ="safe").load(lock).get("stages", {})
    for stage in stages.values():
        for output in stage.get("outs", []):
            if Path(output["path"]) == path:
                return str(output["md5"])
    return None
