"""The sub-commands around a trained model: use it, serve it, make it champion."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.stages import PARAMS
from pipeline.tracking.store import CHAMPION

# Nothing heavy up here: --help answers in a moment, each command imports what it needs.

app = typer.Typer()

MODELS = "Trained models"

Model = Annotated[
    str,
    typer.Option(
        "--model", help="champion, the folder of a trained model, or models:/... as MLflow shows."
    ),
]
Size = Annotated[
    tuple[int, int] | None,
    typer.Option(
        "--size",
        metavar="ROWS COLUMNS",
        help="At which the network sees a picture; by default as in its evaluation.",
    ),
]


@app.command(rich_help_panel=MODELS)
def predict(
    pictures: Annotated[
        list[Path], typer.Argument(help="PNGs, JPEGs, or folders of them: of a video's frames too.")
    ],
    out: Annotated[Path, typer.Option("--out", help="The folder to write below.")] = Path(
        "predictions"
    ),
    model: Model = CHAMPION,
    size: Size = None,
) -> None:
    """Segment pictures: PNGs of train ids into labels/, coloured photographs into overlay/.

    A picture that cannot be read is named at the end; the others are there all the same.

    Example: python -m pipeline predict street.png --model data/train/ce-0
    """
    from pipeline import errors
    from pipeline.cli import progress
    from pipeline.serving import predict
    from pipeline.serving.load import load_model

    found = predict.find_images(pictures)
    loaded = load_model(model, size)
    with progress.show_progress("predict", "pictures") as advance:
        unread = predict.predict(loaded, found, out, advance)
    typer.echo(f"{len(found) - len(unread)} of {len(found)} by {loaded.name}, below {out}")
    errors.raise_problems(unread, "predict", "with pictures")


@app.command("serve-model", rich_help_panel=MODELS)
def serve_model(
    model: Model = CHAMPION,
    size: Size = None,
    port: Annotated[int, typer.Option(help="0: any that is free.")] = 5101,
    host: Annotated[
        str, typer.Option(help="The default cannot be reached from other machines.")
    ] = "127.0.0.1",
) -> None:
    """Answer pictures posted to this machine with their classes; docs/serving.md says how.

    Example: python -m pipeline serve-model --model data/train/ce-0
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
            help="An arm (its newest run), or the id of a run in MLflow; of several the best. By"
            " default the best arm of the newest ablation.",
        ),
    ] = None,
    experiment: Annotated[
        str | None,
        typer.Option(help="The DVC experiment whose arms are meant; by default none's."),
    ] = None,
    rollback: Annotated[
        bool, typer.Option("--rollback", help="Return to the former champion.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--regardless", help="Promote it whatever the gate says.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option("--report", help="Also write the report into this file.")
    ] = None,
    params: Annotated[Path, typer.Option("--params", help="The parameters.")] = PARAMS,
) -> None:
    """Make a model champion, if it is better beyond chance and no class loses much.

    The exit code is 0 only if the challenger is champion afterwards. docs/gate.md says more.

    Example: python -m pipeline promote ce-0
    """
    if rollback and (challengers or experiment or force or report):
        raise ValueError("--rollback goes alone: it returns to the former champion, and no other")
    from pipeline.params import load
    from pipeline.promotion import promote as promote_module
    from segformer.atomic import write_text

    if rollback:
        typer.echo(promote_module.rollback())
        return
    rules = load.load_config(params).promote
    result = promote_module.promote(rules, challengers or (), experiment=experiment, force=force)
    typer.echo(result.summary)
    if report:
        write_text(report, result.report)
    if not result.is_challenger_champion:
        raise typer.Exit(1)
