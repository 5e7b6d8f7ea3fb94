"""Queries DVC and runs its stages; no other package calls DVC."""

from pipeline.dvc.experiment_results import PipelineResults, load_results
from pipeline.dvc.messages import StageError, StageOutcome, WorkspaceBusyError
from pipeline.dvc.queries import (
    Graph,
    cache_folder,
    default_environment,
    find_output,
    find_outputs,
    find_up_to_date,
    load_graph,
    load_metrics,
    resolve_targets,
    restore_into,
    transitive_reduction,
    upstream_subgraph,
)
from pipeline.dvc.repro import DvcProcess, run_stage, start_experiment

__all__ = [
    "DvcProcess",
    "Graph",
    "PipelineResults",
    "StageError",
    "StageOutcome",
    "WorkspaceBusyError",
    "cache_folder",
    "default_environment",
    "find_output",
    "find_outputs",
    "find_up_to_date",
    "load_graph",
    "load_metrics",
    "load_results",
    "resolve_targets",
    "restore_into",
    "run_stage",
    "start_experiment",
    "transitive_reduction",
    "upstream_subgraph",
]
