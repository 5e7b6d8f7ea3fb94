"""The commands for trained models: serve-model, promote."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.stages import PARAMS, Params
from pipeline.tracking.store import CHAMPION

# Commands import what they need, so that --help stays fast.

app = typer.Typer()

MODELS = "Trained models"

Model = Annotated[
    str,
    typer.Option(
        "--model",
        help="Model: `champion` (the promoted model), the folder of a trained model, or an MLflow"
        " URI (models:/...).",
    ),
]
Size = Annotated[
    tuple[int, int] | None,
    typer.Option(
        "--size",
        metavar="ROWS COLUMNS",
        help="Input size in pixels. Default: the size kept with the model: that of its evaluation"
        " in MLflow, of its training in a folder.",
    ),
]


@app.command("serve-model", rich_help_panel=MODELS)
def serve_model(
    model: Model = CHAMPION,
    size: Size = None,
    port: Annotated[int, typer.Option(help="Port of the server; 0 for any free port.")] = 5101,
    host: Annotated[
        str,
        typer.Option(help="Address to listen on; other machines cannot reach the default."),
    ] = "127.0.0.1",
) -> None:
    """Start an HTTP server that segments posted images. See docs/serving.md.

    Example: segformer serve-model --model data/train/ce-0
    """
    from pipeline.serving.load import load_model
    from pipeline.serving.server import serve

    serve(load_model(model, size), host, port, notify=typer.echo)


@app.command(rich_help_panel=MODELS)
def promote(
    challengers: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CHALLENGER",
            help="Arm, which stands for its newest run, or run id in MLflow. Of several, the best"
            " is the challenger. Default: the best arm of the newest ablation.",
        ),
    ] = None,
    experiment: Annotated[
        str | None,
        typer.Option(help="DVC experiment to look the arms up in. Default: the workspace."),
    ] = None,
    rollback: Annotated[
        bool,
        typer.Option("--rollback", help="Restore the previous champion. Takes no other options."),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Promote the challenger even if the gate rejects it.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option("--report", help="File to write the report to.")
    ] = None,
    params: Params = PARAMS,
) -> None:
    """Make a model the champion if it is significantly better and no class becomes much worse.

    The exit code is 0 only if the challenger is the champion afterwards. See docs/gate.md.

    Example: segformer promote ce-0
    """
    if rollback and (challengers or experiment or force or report):
        raise ValueError("--rollback takes no other options: it restores the previous champion")
    from pipeline.params import load
    from pipeline.promotion import promote
    from segformer.atomic import write_text

    if rollback:
        typer.echo(promote.rollback())
        return
    rules = load.load_config(params).promote
    result = promote.promote(rules, challengers or (), experiment=experiment, force=force)
    typer.echo(result.summary)
    if report:
        write_text(report, result.report)
    if not result.is_challenger_champion:
        raise typer.Exit(1)
