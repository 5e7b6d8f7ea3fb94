"""Reads dvc.yaml and dvc.lock: the Python dependencies of a stage, the md5 of its outputs."""

from collections.abc import Iterable
from pathlib import Path

from ruamel.yaml import YAML

DVC_LOCK = Path("dvc.lock")
DVC_YAML = Path("dvc.yaml")


def output_md5(path: Path, lockfile: Path = DVC_LOCK) -> str | None:
    """Return the md5 of a stage output; None if dvc.lock does not list it."""
    if not lockfile.exists():
        return None
    stages = YAML(typ="safe").load(lockfile).get("stages", {})
    for stage in stages.values():
        for output in stage.get("outs", []):
            if Path(output["path"]) == path:
                return str(output["md5"])
    return None


def stage_outputs(stage: str, lockfile: Path = DVC_LOCK) -> list[Path]:
    """Return the paths of a stage's outputs in dvc.lock."""
    return [Path(out["path"]) for out in YAML(typ="safe").load(lockfile)["stages"][stage]["outs"]]


def stage_modules(stage: str, dvc_yaml: Path = DVC_YAML) -> list[Path]:
    """Return the Python files that a stage depends on, those of its packages included.

    Args:
        stage: its name in dvc.yaml.
        dvc_yaml: in the folder that its paths start from; if it is missing, there are no files.
    """
    if not dvc_yaml.exists():
        return []
    root = dvc_yaml.parent
    files: list[Path] = []
    for dep in YAML(typ="safe").load(dvc_yaml)["stages"][stage]["deps"]:
        if dep.endswith(".py"):
            files.append(Path(dep))
        else:
            files += sorted(path.relative_to(root) for path in (root / dep).rglob("*.py"))
    return files


def upstream_md5(paths: Iterable[Path], lockfile: Path = DVC_LOCK) -> dict[str, str]:
    """Return the md5 of stage outputs and of all data upstream of them, to the first stage.

    Args:
        paths: stage outputs; paths that dvc.lock does not list as outputs are left out.
        lockfile: dvc.lock.

    Returns:
        md5 by path, sorted. Code is left out: the commit identifies it.
    """
    if not lockfile.exists():
        return {}
    stages = YAML(typ="safe").load(lockfile).get("stages", {}).values()
    outputs = {
        out["path"]: (str(out["md5"]), stage) for stage in stages for out in stage.get("outs", [])
    }
    upstream: dict[str, str] = {}
    pending = [str(path) for path in paths]
    while pending:
        path = pending.pop()
        if path in upstream or path not in outputs:
            continue
        upstream[path], stage = outputs[path]
        pending += [dep["path"] for dep in stage.get("deps", [])]
    return dict(sorted(upstream.items()))
