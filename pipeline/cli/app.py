"""The command line: the stages, and what people run by hand.

python -m pipeline --help
"""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli import models, runs, services, stages, submit
from pipeline.cli.stages import PARAMS
from pipeline.signals import exit_on_sigterm

# Nothing heavy up here: --help answers in a moment, each command imports what it needs.

app = typer.Typer(
    name="segformer",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="SegFormer on street scenes. The stages are run by `dvc repro`, in the graph's order.",
)
app.add_typer(stages.app)
app.add_typer(stages.ablation_app)
app.add_typer(models.app)
app.add_typer(runs.app)
app.add_typer(services.app)

TOOLS = "For people"
PRESETS = Path("presets")


@app.command(rich_help_panel=TOOLS)
def preset(
    name: Annotated[str | None, typer.Argument(help="Which; without one, all are listed.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would change, and write nothing.")
    ] = False,
    params: Annotated[Path, typer.Option(help="The parameters.")] = PARAMS,
) -> None:
    """Write a recipe into params.yaml, and say what it changed.

    A preset decides the whole recipe: of an earlier one, or of your edits,
    nothing is left in it. What no preset names stays, as do comments, `launch`,
    and a source `folder` with its name. docs/presets.md says more.

    Example: python -m pipeline preset paper-b0 --dry-run
    """
    from pipeline.params import presets
    from segformer.atomic import write_text

    if name is None:
        in_force = presets.find_active_presets(params, PRESETS)
        for known in presets.list_presets(PRESETS):
            mark = " (in force)" if known in in_force else ""
            typer.echo(f"{known:10} {presets.read_description(known, PRESETS)}{mark}")
        return
    plan = presets.plan_changes(name, params, PRESETS)
    for line in plan.changes + plan.kept_parameters:
        typer.echo(line)
    if plan.changes and not dry_run:
        write_text(params, plan.text)
    typer.echo(
        _describe_preset_change(params, len(plan.changes), name=name, is_written=not dry_run)
    )


def _describe_preset_change(params: Path, changed: int, *, name: str, is_written: bool) -> str:
    if not changed:
        return f"{params} says all this already: nothing to change"
    number = f"{changed} parameter{'s' if changed > 1 else ''}"
    if not is_written:
        return f"{params} is as it was: {name} would change {number}"
    return (
        f"{name} changed {number} of {params}: `python -m pipeline doctor` says what is missing for"
        " it, `dvc repro` runs it"
    )


@app.command(rich_help_panel=TOOLS)
def doctor(params: Annotated[Path, typer.Option(help="The parameters.")] = PARAMS) -> None:
    """Look at the environment, the data and the services: what is wrong, and what to do.

    Example: python -m pipeline doctor
    """
    import shutil
    from functools import partial

    from pipeline.doctor import finding
    from pipeline.doctor.examine import run_checks

    findings = run_checks(params)
    colors = {"ok": "green", "MEND": "red"}
    for line in finding.format_findings(
        findings,
        width=shutil.get_terminal_size().columns if sys.stdout.isatty() else None,
        style_topic=partial(typer.style, bold=True),
        style_status=lambda mark: typer.style(mark, fg=colors[mark]),
    ):
        typer.echo(line)
    if not all(one.ok for one in findings):
        raise typer.Exit(1)


app.command(rich_help_panel=TOOLS)(submit.submit)


@app.command(rich_help_panel=TOOLS)
def results() -> None:
    """Say what the last `dvc repro` came to, and where to look.

    Example: python -m pipeline results
    """
    from pipeline.cli.results import summarize_results

    typer.echo(summarize_results())


def main() -> None:
    """Run the command line; a user's mistake ends in one message and exit code 1, no traceback."""
    # By default OpenMP's threads spin long while they wait for each other: where something else
    # runs on their cores, a training step then takes many times as long. Read when torch is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    try:
        with exit_on_sigterm():  # so that a SIGTERM leaves no half-written file behind
            app()
    except (ValueError, OSError) as mistake:
        if os.environ.get("SEGFORMER_TRACEBACK"):
            raise
        typer.echo(f"error: {mistake}", err=True)
        sys.exit(1)
