"""The commands for scheduled retraining: retrain, serve, up."""

import os
from typing import Annotated

import typer

from pipeline.cli.stages import PARAMS

# Commands import what they need, so that --help stays fast.

app = typer.Typer()

SERVICES = "Retraining"

Force = Annotated[
    bool,
    typer.Option("--force", help="Run the selected stages even if they are up to date."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", "-S", help="Changed parameter, such as train.steps=20. Repeatable."),
]


@app.command(rich_help_panel=SERVICES)
def retrain(
    stages: Annotated[
        list[str] | None,
        typer.Argument(
            help="Stages to update, such as train, with their upstream stages. Default: all."
        ),
    ] = None,
    overrides: Overrides = None,
    force: Force = False,
    promote: Annotated[
        bool, typer.Option("--promote", help="Afterwards run `promote` on the new models.")
    ] = False,
) -> None:
    """Run the stages as a Prefect flow, with one task run per stage.

    With --set they run as a DVC experiment, and the workspace stays unchanged.

    Example: segformer retrain train --set train.steps=20
    """
    _set_default_environment()
    from pipeline.flows.retrain import run_flow
    from pipeline.params import load

    load.load_config(PARAMS)
    run_flow(stages or (), overrides=overrides or (), force=force, promote=promote)


@app.command(rich_help_panel=SERVICES)
def serve(
    cron: Annotated[str, typer.Option(help="Schedule as a cron expression.")] = "0 2 * * 0",
    timezone: Annotated[str, typer.Option(help="Time zone of the schedule.")] = "UTC",
    wait: Annotated[float, typer.Option(help="Seconds to wait for the Prefect server.")] = 10,
    guard_only: Annotated[
        bool,
        typer.Option(
            "--guard-only",
            help="Only install the automation that marks dead runs as crashed, for use with"
            " workers of your own.",
        ),
    ] = False,
) -> None:
    """Retrain on a schedule: serve the deployment retrain/weekly to a Prefect server.

    PREFECT_API_URL is the address of the server. See docs/retraining.md.

    Example: PREFECT_API_URL=http://127.0.0.1:4200/api segformer serve
    """
    _set_default_environment()
    from pipeline.flows import deployment

    if guard_only:
        deployment.install_automation(wait)
    else:
        deployment.serve_deployment(cron, timezone, wait)


@app.command(rich_help_panel=SERVICES)
def up(
    mlflow_port: Annotated[int, typer.Option(envvar="MLFLOW_PORT", help="Port of MLflow.")] = 5000,
    prefect_port: Annotated[
        int, typer.Option(envvar="PREFECT_PORT", help="Port of Prefect.")
    ] = 4200,
) -> None:
    """Start MLflow, Prefect and the scheduled retraining on this machine; ctrl-C stops all.

    Example: segformer up --mlflow-port 5001
    """
    from pipeline.flows.services import start_services

    start_services(mlflow_port=mlflow_port, prefect_port=prefect_port)


def _set_default_environment() -> None:
    """Set the environment variables that Prefect reads when it is imported."""
    from pipeline import dvc

    defaults = dvc.default_environment()
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    # Always: the automation marks a run as crashed after three missing heartbeats.
    heartbeat = "PREFECT_FLOWS_HEARTBEAT_FREQUENCY"
    os.environ[heartbeat] = defaults[heartbeat]
