"""Queries DVC for the graph of stages, output paths and metrics, and restores its cache."""

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
"""Direct upstream stages by stage, in topological order."""

DVC_COMMAND = [sys.executable, "-m", "dvc"]


def default_environment() -> dict[str, str]:
    """Return the variables to set, where unset, before DVC or Prefect start: no telemetry.

    The command line sets them before it imports `pipeline.flows.retrain`; stages inherit them.
    """
    return {
        "DO_NOT_TRACK": "true",  # Prefect and MLflow; MLflow accepts no other spelling
        "DVC_NO_ANALYTICS": "true",
        # Seconds between two heartbeats of a flow run; a run without them is marked as crashed.
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        # Seconds; Prefect's default of 20 is too short for its temporary server on a busy machine.
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    }


def load_graph(params: Mapping[str, Any] | None = None) -> Graph:
    """Read the graph of stages from DVC.

    Args:
        params: parameters to use instead of params.yaml; they may change the stages.

    Raises:
        ValueError: if dvc.yaml or params.yaml cannot be read, or this folder is no DVC project.
    """
    upstream: Graph = {}
    dot = _run_dvc("dag", "--dot") if params is None else _dag_with_params(params)
    for line in dot.splitlines():
        match re.findall(r'"([^"]+)"', line):
            case [stage]:
                upstream[stage] = []
            case [before, after]:
                upstream[after].append(before)
    return {stage: upstream[stage] for stage in TopologicalSorter(upstream).static_order()}


def _dag_with_params(params: Mapping[str, Any]) -> str:
    """Run `dvc dag` in a temporary project, because it reads parameters from params.yaml only."""
    with TemporaryDirectory(prefix="graph-") as name:
        folder = Path(name)
        (folder / ".dvc").mkdir()
        (folder / ".dvc" / "config").write_text("[core]\n    no_scm = true\n")
        (folder / "dvc.yaml").write_bytes(Path("dvc.yaml").read_bytes())
        (folder / "params.yaml").write_text(json.dumps(params))  # JSON is YAML
        return _run_dvc("dag", "--dot", folder=folder)


def resolve_targets(graph: Graph, names: Iterable[str]) -> set[str]:
    """Return the stages that `names` select; the name of a matrix (`train`) selects all its items.

    Raises:
        ValueError: if a name is neither a stage nor a matrix; the message lists all such names.
    """
    selected: set[str] = set()
    problems = []
    for name in names:
        matches = {stage for stage in graph if name in (stage, stage.partition("@")[0])}
        if not matches:
            choices = list(dict.fromkeys([s.partition("@")[0] for s in graph] + list(graph)))
            hint = suggest_name(name, choices) or f"; choose from {', '.join(choices)}"
            problems.append(f"{name} is not a stage of dvc.yaml{hint}")
        selected |= matches
    if problems:
        raise ValueError("\n".join(problems))
    return selected


def upstream_subgraph(graph: Graph, stages: Iterable[str]) -> Graph:
    """Return the part of the graph with these stages and everything upstream of them."""
    required = set(stages)
    for stage in reversed(graph):
        if stage in required:
            required.update(graph[stage])
    return {stage: upstream for stage, upstream in graph.items() if stage in required}


def transitive_reduction(graph: Graph) -> Graph:
    """Return the graph without edges that follow from other edges."""
    ancestors: dict[str, set[str]] = {}
    for stage, upstream in graph.items():
        ancestors[stage] = set(upstream).union(*(ancestors[name] for name in upstream))
    return {
        stage: [
            name for name in upstream if not any(name in ancestors[other] for other in upstream)
        ]
        for stage, upstream in graph.items()
    }


def find_up_to_date(graph: Graph, *, forced: Collection[str] = ()) -> set[str]:
    """Return the stages that are up to date, together with all their upstream stages.

    One `dvc status` takes as long as `dvc repro` of one stage that is up to date. If it fails,
    because another DVC process is running, the result is empty.

    Args:
        graph: a graph that includes all upstream stages.
        forced: stages that will run in any case.
    """
    try:
        stale = json.loads(_run_dvc("status", "--json"))
    except ValueError:
        return set()
    up_to_date: set[str] = set()
    for stage, upstream in graph.items():
        if stage not in stale and stage not in forced and up_to_date.issuperset(upstream):
            up_to_date.add(stage)
    return up_to_date


def find_output(name: str) -> Path | None:
    """Return the path of the output file `name`, such as source.json; None if there is none."""
    return find_outputs(name)[name]


def find_outputs(*names: str) -> dict[str, Path | None]:
    """Return the paths of several output files by name; DVC takes about a second to list outputs.

    Raises:
        ValueError: if dvc.yaml or params.yaml cannot be read, or this folder is no DVC project.
    """
    files = [Path("dvc.yaml"), Path("params.yaml")]
    outputs = _list_outputs(Path.cwd(), *(path.read_bytes() for path in files if path.exists()))
    return {name: _find_path(name, outputs) for name in names}


@cache
def _list_outputs(folder: Path, *contents: bytes) -> tuple[Path, ...]:  # noqa: ARG001
    """List all outputs. The arguments, the folder and its YAML files, are the key of the cache."""
    paths = re.findall(r'"([^"]+)"', _run_dvc("dag", "--dot", "--outs"))
    return tuple(map(Path, dict.fromkeys(paths)))


def _find_path(name: str, output_paths: Iterable[Path]) -> Path | None:
    for path in output_paths:
        if path.name == name:
            return path
        if (path / name).is_file():  # DVC lists an output folder without its files
            return path / name
    return None


def load_metrics() -> dict[str, dict[str, Any]]:
    """Return the metrics by the path of their file; files that cannot be read are left out."""
    metrics = json.loads(_run_dvc("metrics", "show", "--json"))
    files: dict[str, dict[str, Any]] = metrics.get("", {}).get("data", {})
    return {path: file["data"] for path, file in files.items() if "data" in file}


def cache_folder() -> Path:
    """Return the folder of DVC's cache; it may not exist, for example on an unmounted disk."""
    return Path(_run_dvc("cache", "dir").strip())


def restore_into(folder: Path) -> list[str]:
    """Make a copy of the project use this project's cache, and check out its outputs.

    Args:
        folder: the copy, with a dvc.lock of its own.

    Returns:
        The outputs that are not in the cache.
    """
    cache = cache_folder().resolve()
    _run_dvc("cache", "dir", "--local", str(cache), folder=folder)
    _run_dvc("checkout", "--allow-missing", "--quiet", "--force", folder=folder)
    status = json.loads(_run_dvc("data", "status", "--json", folder=folder) or "{}")
    return sorted(status.get("not_in_cache", []))


def _run_dvc(*arguments: str, folder: Path | None = None) -> str:
    """Run a DVC command to its end and return its standard output.

    Args:
        arguments: the command line after `dvc`.
        folder: working directory; None for the current one.

    Raises:
        ValueError: if DVC fails; with its error message.
    """
    environment = default_environment() | dict(os.environ)
    process = subprocess.run(
        [*DVC_COMMAND, *arguments], capture_output=True, text=True, env=environment, cwd=folder
    )
    if process.returncode:
        errors = process.stderr.strip().removeprefix("ERROR: ")
        raise ValueError(f"dvc {arguments[0]}: {errors}")
    return process.stdout
