"""Asks DVC questions: the graph of stages, where outputs lie, the metrics."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pipeline.params.section import suggest_name

Graph = dict[str, list[str]]
"""For each stage the stages it waits for; a stage stands after all of those."""

DVC_COMMAND = [sys.executable, "-m", "dvc"]


def default_environment() -> dict[str, str]:
    """Return what to set, where unset, before Prefect or DVC start: nothing reports home.

    The command line sets it before it imports `pipeline.flows.retrain`; stages inherit it.
    """
    return {
        "DO_NOT_TRACK": "true",  # Prefect and MLflow; MLflow takes no other spelling
        "DVC_NO_ANALYTICS": "true",
        # Seconds between two signs of life of a flow run, by which a dead one is known.
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        # Seconds; Prefect's own 20 are too few for its temporary server on a busy machine.
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    }


def load_graph(params: Mapping[str, Any] | None = None) -> Graph:
    """Read the graph of stages from DVC, in an order in which they can run.

    Args:
        params: what params.yaml is to hold instead, for another graph of the same dvc.yaml.

    Raises:
        ValueError: if dvc.yaml or params.yaml cannot be read, or there is no DVC project here.
    """
    upstream: Graph = {}
    told = _run_dvc("dag", "--dot") if params is None else _dag_with_params(params)
    for line in told.splitlines():
        match re.findall(r'"([^"]+)"', line):
            case [stage]:
                upstream[stage] = []
            case [before, after]:
                upstream[after].append(before)
    return {stage: upstream[stage] for stage in TopologicalSorter(upstream).static_order()}


def _dag_with_params(params: Mapping[str, Any]) -> str:
    """Ask in a folder where there is nothing else: DVC takes no other parameters for a question."""
    with TemporaryDirectory(prefix="graph-") as name:
        folder = Path(name)
        (folder / ".dvc").mkdir()
        (folder / ".dvc" / "config").write_text("[core]\n    no_scm = true\n")
        (folder / "dvc.yaml").write_bytes(Path("dvc.yaml").read_bytes())
        (folder / "params.yaml").write_text(json.dumps(params))  # JSON is YAML
        return _run_dvc("dag", "--dot", folder=folder)


def resolve_targets(graph: Graph, names: Iterable[str]) -> set[str]:
    """Return the stages meant by `names`; the name of a matrix (`train`) means all its items.

    Raises:
        ValueError: with every name that is neither.
    """
    chosen: set[str] = set()
    mistakes = []
    for name in names:
        found = {stage for stage in graph if name in (stage, stage.partition("@")[0])}
        if not found:
            known = list(dict.fromkeys([s.partition("@")[0] for s in graph] + list(graph)))
            hint = suggest_name(name, known) or f"; choose from {', '.join(known)}"
            mistakes.append(f"{name} is not a stage of dvc.yaml{hint}")
        chosen |= found
    if mistakes:
        raise ValueError("\n".join(mistakes))
    return chosen


def upstream_subgraph(graph: Graph, stages: Iterable[str]) -> Graph:
    """Return the part of the graph that the stages need: themselves and everything before them."""
    needed = set(stages)
    for stage in reversed(graph):
        if stage in needed:
            needed.update(graph[stage])
    return {stage: before for stage, before in graph.items() if stage in needed}


def transitive_reduction(graph: Graph) -> Graph:
    """Return the graph without the edges that others imply: what is left is what one would draw."""
    behind: dict[str, set[str]] = {}
    for stage, before in graph.items():
        behind[stage] = set(before).union(*(behind[one] for one in before))
    return {
        stage: [one for one in before if not any(one in behind[other] for other in before)]
        for stage, before in graph.items()
    }


def find_up_to_date(graph: Graph, *, forced: Collection[str] = ()) -> set[str]:
    """Return the stages of a graph that are up to date now, as are all before them.

    This one question takes DVC as long as one stage that it finds up to date. Where it cannot
    tell, because another of its processes is at work, no stage is known to be.

    Args:
        graph: a whole one, or with all that its stages need.
        forced: the stages that are to run in any case.
    """
    try:
        stale = json.loads(_run_dvc("status", "--json"))
    except ValueError:
        return set()
    found: set[str] = set()
    for stage, before in graph.items():
        if stage not in stale and stage not in forced and found.issuperset(before):
            found.add(stage)
    return found


def find_output(name: str) -> Path | None:
    """Return the path of the output file called `name`, say source.json; None if there is none."""
    return find_outputs(name)[name]


def find_outputs(*names: str) -> dict[str, Path | None]:
    """Return, by name, the paths of several output files; each question costs DVC a second.

    Raises:
        ValueError: if dvc.yaml or params.yaml cannot be read, or there is no DVC project here.
    """
    declared = [Path("dvc.yaml"), Path("params.yaml")]
    listed = _list_outputs(Path.cwd(), *(path.read_bytes() for path in declared if path.exists()))
    return {name: _find_path(name, listed) for name in names}


@cache
def _list_outputs(folder: Path, *declared: bytes) -> tuple[Path, ...]:
    """Ask for all outputs in a folder, once for what dvc.yaml and params.yaml hold there."""
    found = re.findall(r'"([^"]+)"', _run_dvc("dag", "--dot", "--outs"))
    return tuple(map(Path, dict.fromkeys(found)))


def _find_path(name: str, output_paths: Iterable[Path]) -> Path | None:
    for path in output_paths:
        if path.name == name:
            return path
        if (path / name).is_file():  # DVC lists an output folder, not what is in it
            return path / name
    return None


def load_metrics() -> dict[str, dict[str, Any]]:
    """Return the metrics that can be read, by the path of their file."""
    shown = json.loads(_run_dvc("metrics", "show", "--json"))
    files: dict[str, dict[str, Any]] = shown.get("", {}).get("data", {})
    return {path: file["data"] for path, file in files.items() if "data" in file}


def cache_folder() -> Path:
    """Where DVC keeps what the stages made; a folder that the configuration names may be away."""
    return Path(_run_dvc("cache", "dir").strip())


def _run_dvc(*arguments: str, folder: Path | None = None) -> str:
    """Run a DVC command that only looks, here or in another folder; return what it printed."""
    environment = default_environment() | dict(os.environ)
    done = subprocess.run(
        [*DVC_COMMAND, *arguments], capture_output=True, text=True, env=environment, cwd=folder
    )
    if done.returncode:
        errors = done.stderr.strip().removeprefix("ERROR: ")
        raise ValueError(f"dvc {arguments[0]}: {errors}")
    return done.stdout


def restore_into(folder: Path) -> list[str]:
    """Give a copy of the project this one's cache, and bring back all that is in there.

    Args:
        folder: the copy, with its own dvc.lock.

    Returns:
        The outputs that are not in the cache.
    """
    cache = cache_folder().resolve()
    _run_dvc_in(folder, "cache", "dir", "--local", str(cache))
    _run_dvc_in(folder, "checkout", "--allow-missing", "--quiet", "--force")
    asked = json.loads(_run_dvc_in(folder, "data", "status", "--json") or "{}")
    return sorted(asked.get("not_in_cache", []))


def _run_dvc_in(folder: Path, *arguments: str) -> str:
    environment = default_environment() | dict(os.environ)
    done = subprocess.run(
        [*DVC_COMMAND, *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise ValueError(f"dvc {arguments[0]}: {done.stderr.strip().removeprefix('ERROR: ')}")
    return done.stdout
