"""The sub-commands around services: retrain as a flow, serve it on a schedule, start everything."""

import os
from typing import Annotated

import typer

from pipeline.cli.stages import PARAMS

# Nothing heavy up here: --help answers in a moment, each command imports what it needs.

app = typer.Typer()

SERVICES = "Retraining"

Force = Annotated[
    bool,
    typer.Option("--force", help="Run the stages named (all, if none is) though nothing changed."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", "-S", help="A parameter that is to differ, train.steps=20; repeatable."),
]


@app.command(rich_help_panel=SERVICES)
def retrain(
    stages: Annotated[
        list[str] | None, typer.Argument(help="Only these, and what they need.")
    ] = None,
    overrides: Overrides = None,
    force: Force = False,
    promote: Annotated[
        bool, typer.Option("--promote", help="Then let the gate decide about the champion.")
    ] = False,
) -> None:
    """Run the graph as a Prefect flow: a task run per stage.

    With --set it runs as a DVC experiment, and the workspace stays as it is.

    Example: python -m pipeline retrain train --set train.steps=20
    """
    _set_default_environment()
    from pipeline.flows import retrain as retrain_module
    from pipeline.params import load

    load.load_config(PARAMS)
    retrain_module.run_flow(stages or (), overrides=overrides or (), force=force, promote=promote)


@app.command(rich_help_panel=SERVICES)
def serve(
    cron: Annotated[str, typer.Option(help="When it retrains by itself.")] = "0 2 * * 0",
    timezone: Annotated[str, typer.Option(help="In which that is meant.")] = "UTC",
    wait: Annotated[float, typer.Option(help="Seconds the server may take to answer.")] = 10,
    guard_only: Annotated[
        bool,
        typer.Option(
            "--guard-only", help="Only install what ends retrainings that died, for workers."
        ),
    ] = False,
) -> None:
    """Serve the deployment retrain/weekly to the Prefect server at PREFECT_API_URL.

    Example: PREFECT_API_URL=http://127.0.0.1:4200/api python -m pipeline serve
    """
    _set_default_environment()
    from pipeline.flows import deployment

    if guard_only:
        deployment.install_automation(wait)
    else:
        deployment.serve_deployment(cron, timezone, wait)


@app.command(rich_help_panel=SERVICES)
def up(
    mlflow_port: Annotated[int, typer.Option(envvar="MLFLOW_PORT", help="Of MLflow.")] = 5000,
    prefect_port: Annotated[int, typer.Option(envvar="PREFECT_PORT", help="Of Prefect.")] = 4200,
) -> None:
    """Start MLflow, Prefect and the scheduled retraining on this machine; ctrl-C ends all.

    Example: python -m pipeline up --mlflow-port 5001
    """
    from pipeline.flows import services

    services.start_services(mlflow_port=mlflow_port, prefect_port=prefect_port)


def _set_default_environment() -> None:
    """Set what Prefect reads when it is imported."""
    from pipeline import dvc

    quiet = dvc.default_environment()
    for name, value in quiet.items():
        os.environ.setdefault(name, value)
    # Whatever was set: the guard takes a run that is silent for three of these for dead.
    heartbeat = "PREFECT_FLOWS_HEARTBEAT_FREQUENCY"
    os.environ[heartbeat] = quiet[heartbeat]
