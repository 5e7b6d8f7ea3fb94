"""The only package that runs DVC: ask it for graph and results, have it run stages."""

from pipeline.repro.asking import (
    Graph,
    cache_folder,
    direct,
    fresh,
    graph,
    metrics,
    output,
    outputs,
    quiet_environment,
    targets,
    with_upstream,
)
from pipeline.repro.experiments import Results, results
from pipeline.repro.restoring import restore_into
from pipeline.repro.running import AtWork, experiment, run_stage
from pipeline.repro.words import Outcome, StageFailed, WorkspaceBusy

__all__ = [
    "AtWork",
    "Graph",
    "Outcome",
    "Results",
    "StageFailed",
    "WorkspaceBusy",
    "cache_folder",
    "direct",
    "experiment",
    "fresh",
    "graph",
    "metrics",
    "output",
    "outputs",
    "quiet_environment",
    "restore_into",
    "results",
    "run_stage",
    "targets",
    "with_upstream",
]
