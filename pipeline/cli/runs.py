"""The commands for runs: sync, reproduce."""

from pathlib import Path
from typing import Annotated

import typer

# Commands import what they need, so that --help stays fast.

app = typer.Typer()

RUNS = "Runs"


@app.command(rich_help_panel=RUNS)
def sync() -> None:
    """Upload runs recorded while MLflow was unreachable.

    Every run is first recorded in .work/tracking/ and stays there until MLflow has all of it.
    An upload can be repeated without duplicates. See docs/tracking.md.

    Example: segformer sync
    """
    from pipeline.tracking import store
    from pipeline.tracking.journal import list_journals

    if not list_journals(store.journals_folder()):
        typer.echo("all runs are uploaded to MLflow")
        return
    from pipeline.tracking.sync import sync_journals

    is_complete = True
    for name, problem in sync_journals():
        typer.echo(f"{name}: {problem or 'uploaded'}")
        is_complete = is_complete and not problem
    if not is_complete:
        raise typer.Exit(1)


@app.command(rich_help_panel=RUNS)
def reproduce(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN_ID",
            help="Training run in MLflow: its id, the first 8 characters of it, or its name.",
        ),
    ],
    folder: Annotated[
        Path | None,
        typer.Option("--folder", help="New folder to train in. Default: reproduced-RUN_ID."),
    ] = None,
    experiment: Annotated[
        str | None,
        typer.Option(help="DVC experiment to look the name up in. Default: the workspace."),
    ] = None,
) -> None:
    """Repeat a training run with its commit, parameters and data, in a new folder.

    Missing data and differences of the machine are listed before the training. Afterwards the
    models are compared byte by byte; on a CPU with the same number of threads they are equal.

    Example: segformer reproduce 4f0f6d2b
    """
    from pipeline.cli.reproduce import reproduce_run

    for message in reproduce_run(run, folder, experiment):
        typer.echo(message)
