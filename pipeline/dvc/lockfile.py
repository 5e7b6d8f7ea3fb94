"""Reads DVC's files: the modules of a stage in dvc.yaml, the sums of its outputs in dvc.lock."""

from collections.abc import Iterable
from pathlib import Path

from ruamel.yaml import YAML

DVC_LOCK = Path("dvc.lock")
DVC_YAML = Path("dvc.yaml")


def output_md5(path: Path, lockfile: Path = DVC_LOCK) -> str | None:
    """DVC's md5 of a stage's output, None if no stage has written it under DVC."""
    if not lockfile.exists():
        return None
    stages = YAML(typ="safe").load(lockfile).get("stages", {})
    for stage in stages.values():
        for output in stage.get("outs", []):
            if Path(output["path"]) == path:
                return str(output["md5"])
    return None


def stage_outputs(stage: str, lockfile: Path = DVC_LOCK) -> list[Path]:
    """What a stage has written, by DVC's file of sums."""
    return [Path(out["path"]) for out in YAML(typ="safe").load(lockfile)["stages"][stage]["outs"]]


def stage_modules(stage: str, dvc_yaml: Path = DVC_YAML) -> list[Path]:
    """The Python files that a stage in dvc.yaml depends on; none where there is no such file."""
    if not dvc_yaml.exists():
        return []
    deps = YAML(typ="safe").load(dvc_yaml)["stages"][stage]["deps"]
    return [Path(dep) for dep in deps if dep.endswith(".py")]


def upstream_md5(paths: Iterable[Path], lockfile: Path = DVC_LOCK) -> dict[str, str]:
    """DVC's md5 of these outputs, of what their stages read, and so on to the first stage.

    Args:
        paths: of stages' outputs; what no stage has written under DVC is left out.
        lockfile: DVC's file of sums.

    Returns:
        The sum by path; code, which a commit tells, is left out.
    """
    if not lockfile.exists():
        return {}
    stages = YAML(typ="safe").load(lockfile).get("stages", {}).values()
    written = {
        out["path"]: (str(out["md5"]), stage) for stage in stages for out in stage.get("outs", [])
    }
    found: dict[str, str] = {}
    waiting = [str(path) for path in paths]
    while waiting:
        path = waiting.pop()
        if path in found or path not in written:
            continue
        found[path], stage = written[path]
        waiting += [dep["path"] for dep in stage.get("deps", [])]
    return dict(sorted(found.items()))
