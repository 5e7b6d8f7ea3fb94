"""The only package that runs DVC: ask it for graph and results, have it run stages."""

from pipeline.repro.asking import (
    Graph,
    cache_folder,
    transitive_reduction,
    find_up_to_date,
    load_graph,
    load_metrics,
    find_output,
    find_outputs,
    default_environment,
    resolve_targets,
    upstream_subgraph,
)
from pipeline.repro.experiments import PipelineResults, load_results
from pipeline.repro.restoring import restore_into
from pipeline.repro.running import DvcProcess, start_experiment, run_stage
from pipeline.repro.words import StageOutcome, StageError, WorkspaceBusyError

__all__ = [
    "DvcProcess",
    "Graph",
    "StageOutcome",
    "PipelineResults",
    "StageError",
    "WorkspaceBusyError",
    "cache_folder",
    "transitive_reduction",
    "start_experiment",
    "find_up_to_date",
    "load_graph",
    "load_metrics",
    "find_output",
    "find_outputs",
    "default_environment",
    "restore_into",
    "load_results",
    "run_stage",
    "resolve_targets",
    "upstream_subgraph",
]
