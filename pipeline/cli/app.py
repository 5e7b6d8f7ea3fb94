"""The command line: the stages of dvc.yaml and the tools around them.

segformer --help
"""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli import drive, explain, models, predict, runs, services, stages, submit
from pipeline.cli.stages import PARAMS, Params
from pipeline.signals import exit_on_sigterm

# Commands import what they need, so that --help stays fast.

app = typer.Typer(
    name="segformer",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Train, evaluate and serve SegFormer on street scenes. `dvc repro` runs the stages in"
    " order; `segformer doctor` checks the setup.",
)
app.add_typer(stages.app)
app.add_typer(explain.app)
app.command(rich_help_panel=models.MODELS)(predict.predict)
app.add_typer(models.app)
app.add_typer(runs.app)
app.add_typer(services.app)

PROJECT = "Project"
PRESETS = Path("presets")


@app.command(rich_help_panel=PROJECT)
def preset(
    name: Annotated[
        str | None, typer.Argument(help="Name of the preset. Without it, all presets are listed.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the changes without writing them.")
    ] = False,
    params: Params = PARAMS,
) -> None:
    """Write a preset, a complete training recipe, into params.yaml and print the changes.

    A preset sets the whole recipe: it replaces an earlier preset and your own
    edits of the recipe. Parameters that no preset names keep their values, and
    so do comments, `launch`, and a source `folder` with its path. See
    docs/presets.md.

    Example: segformer preset paper-b0 --dry-run
    """
    from pipeline.params import presets
    from segformer.atomic import write_text

    if name is None:
        active = presets.find_active_presets(params, PRESETS)
        for preset_name in presets.list_presets(PRESETS):
            mark = " (active)" if preset_name in active else ""
            typer.echo(f"{preset_name:10} {presets.read_description(preset_name, PRESETS)}{mark}")
        return
    plan = presets.plan_changes(name, params, PRESETS)
    for line in plan.changes + plan.kept_parameters:
        typer.echo(line)
    if plan.changes and not dry_run:
        write_text(params, plan.text)
    typer.echo(
        _describe_preset_change(params, len(plan.changes), name=name, is_written=not dry_run)
    )


def _describe_preset_change(params: Path, num_changes: int, *, name: str, is_written: bool) -> str:
    if not num_changes:
        return f"{params} already has the settings of {name}: nothing to change"
    count = f"{num_changes} parameter{'s' if num_changes > 1 else ''}"
    if not is_written:
        return f"{params} is unchanged: {name} would change {count}"
    return (
        f"{name} changed {count} in {params}: `segformer doctor` checks what it needs,"
        " `dvc repro` runs it"
    )


@app.command(rich_help_panel=PROJECT)
def doctor(params: Params = PARAMS) -> None:
    """Check the environment, the data and the services, and print how to fix problems.

    The exit code is 0 if there are no problems.

    Example: segformer doctor
    """
    import shutil
    from functools import partial

    from pipeline.doctor.examine import run_checks
    from pipeline.doctor.finding import format_findings

    findings = run_checks(params)
    colors = {"ok": "green", "FAIL": "red"}
    for line in format_findings(
        findings,
        width=shutil.get_terminal_size().columns if sys.stdout.isatty() else None,
        style_topic=partial(typer.style, bold=True),
        style_status=lambda status: typer.style(status, fg=colors[status]),
    ):
        typer.echo(line)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


app.command(rich_help_panel=PROJECT)(submit.submit)
app.command(rich_help_panel=PROJECT)(drive.drive)


@app.command(rich_help_panel=PROJECT)
def results() -> None:
    """Print the results of the last `dvc repro` and where to find reports, images and runs.

    Example: segformer results
    """
    from pipeline.cli.results import summarize_results

    typer.echo(summarize_results())


def main() -> None:
    """Run the command line; an error of the user ends in one message and an exit code.

    The exit code is 75 (EX_TEMPFAIL) if a server did not respond after all retries, so that the
    flow `retrain` can try again later, and 1 for all other errors. A traceback is printed only if
    SEGFORMER_TRACEBACK is set.
    """
    # By default OpenMP's threads spin while they wait for each other: where other processes use
    # the same cores, a training step takes many times as long. Read when torch is imported.
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    try:
        with exit_on_sigterm():  # so that SIGTERM leaves no half-written file behind
            app()
    except (ValueError, OSError) as error:
        if os.environ.get("SEGFORMER_TRACEBACK"):
            raise
        typer.echo(f"error: {error}", err=True)
        sys.exit(_exit_code(error))


def _exit_code(error: Exception) -> int:
    from pipeline.download.retry import RetriesExhaustedError

    return os.EX_TEMPFAIL if isinstance(error, RetriesExhaustedError) else 1
