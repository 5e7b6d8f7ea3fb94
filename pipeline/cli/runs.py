"""The commands about runs: send MLflow what it lacks, and make a run once more."""

from pathlib import Path
from typing import Annotated

import typer

# Nothing heavy up here: --help answers in a moment, each command imports what it needs.

app = typer.Typer()

RUNS = "Runs"


@app.command(rich_help_panel=RUNS)
def sync() -> None:
    """Send MLflow what it could not be told while it was away.

    Every run is written down in .work/tracking/ first, and stays there until MLflow has all of
    it. Sending twice doubles nothing. docs/tracking.md says more.

    Example: python -m pipeline sync
    """
    from pipeline.tracking import store
    from pipeline.tracking.journal import list_journals

    if not list_journals(store.journals_folder()):
        typer.echo("nothing waits to be sent to MLflow")
        return
    from pipeline.tracking.sync import sync_journals

    outcomes = []
    for name, trouble in sync_journals():
        typer.echo(f"{name}: {trouble or 'MLflow has all of it'}")
        outcomes.append(trouble)
    if any(outcomes):
        raise typer.Exit(1)


@app.command(rich_help_panel=RUNS)
def reproduce(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN_ID",
            help="A training's run in MLflow: its id, 8 letters of it, or its name.",
        ),
    ],
    folder: Annotated[
        Path | None, typer.Option("--folder", help="A new folder; else reproduced-<run>.")
    ] = None,
    experiment: Annotated[
        str | None, typer.Option(help="The DVC experiment whose runs a name means; else none's.")
    ] = None,
) -> None:
    """Train once more what a run has trained: its commit, parameters and data, in a new folder.

    Says what is missing or differs before it begins, and in the end whether the model's bytes are
    the same; on a CPU with as many threads they are.

    Example: python -m pipeline reproduce 4f0f6d2b
    """
    from pipeline.cli import reproduce

    for sentence in reproduce.reproduce_run(run, folder, experiment):
        typer.echo(sentence)
