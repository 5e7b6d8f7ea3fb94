"""The command line: the stages, and what people run by hand.

python -m pipeline --help
"""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline import stage_commands
from pipeline.termination import unwinding

# Nothing heavy up here: --help answers in a moment, each command imports what it needs.

app = typer.Typer(
    name="segformer",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="SegFormer on street scenes. The stages are run by `dvc repro`, in the graph's order.",
)
app.add_typer(stage_commands.app)

TOOLS = "For people"
PARAMS = Path("params.yaml")


@app.command(rich_help_panel=TOOLS)
def retrain(
    stages: Annotated[
        list[str] | None, typer.Argument(help="Only these, and what they need.")
    ] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Run the stages named (all, if none is) though nothing changed."
        ),
    ] = False,
) -> None:
    """Run the graph as a Prefect flow: a task run per stage.

    Example: python -m pipeline retrain train --force
    """
    from pipeline import repro

    for name, value in repro.quiet_environment().items():
        os.environ.setdefault(name, value)
    from pipeline import config, flows

    config.load(PARAMS)
    flows.run(stages=stages or None, force=force)


@app.command(rich_help_panel=TOOLS)
def doctor(params: Annotated[Path, typer.Option(help="The parameters.")] = PARAMS) -> None:
    """Look at the environment, the data and the services: what is wrong, and what to do.

    Example: python -m pipeline doctor
    """
    import shutil
    from functools import partial

    from pipeline import finding
    from pipeline.doctor import examine

    findings = examine(params)
    colors = {"ok": "green", "MEND": "red"}
    for line in finding.lines(
        findings,
        width=shutil.get_terminal_size().columns if sys.stdout.isatty() else None,
        topic=partial(typer.style, bold=True),
        mark=lambda mark: typer.style(mark, fg=colors[mark]),
    ):
        typer.echo(line)
    if not all(one.is_well for one in findings):
        raise typer.Exit(1)


@app.command(rich_help_panel=TOOLS)
def results() -> None:
    """Say what the last `dvc repro` came to, and where to look.

    Example: python -m pipeline results
    """
    from pipeline.results import summary

    typer.echo(summary())


def main() -> None:
    """Run the command line; a user's mistake ends in one message and exit code 1, no traceback."""
    # By default OpenMP's threads spin long while they wait for each other: where something else
    # runs on their cores, a training step then takes many times as long. Read when torch is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    try:
        with unwinding():  # so that a SIGTERM leaves no half-written file behind
            app()
    except (ValueError, OSError) as mistake:
        if os.environ.get("SEGFORMER_TRACEBACK"):
            raise
        typer.echo(f"error: {mistake}", err=True)
        sys.exit(1)
