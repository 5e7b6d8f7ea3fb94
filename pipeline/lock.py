"""Reads DVC's files: the modules of a stage in dvc.yaml, the sums of its outputs in dvc.lock."""

from pathlib import Path

from ruamel.yaml import YAML

LOCK = Path("dvc.lock")
GRAPH = Path("dvc.yaml")


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


def modules(stage: str, graph: Path = GRAPH) -> list[Path]:
    """The Python files that a stage in dvc.yaml depends on; none where there is no such file."""
    if not graph.exists():
        return []
    deps = YAML(typ="safe").load(graph)["stages"][stage]["deps"]
    return [Path(dep) for dep in deps if dep.endswith(".py")]
