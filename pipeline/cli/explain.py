"""The command `explain`: draws attention; without inputs the stage, which measures the heads."""

from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.cli.models import Model, Size
from pipeline.cli.predict import Codec, CodecOption, End, Every, Fps, Start
from pipeline.cli.stages import PARAMS, STAGES, Params
from pipeline.tracking.store import CHAMPION

# Commands import what they need, so that --help stays fast.

app = typer.Typer()

_ATTENTION = "Attention"
_DRAWING = "Drawing"
_STAGE = "Without INPUT: the stage"


class Direction(StrEnum):
    """From the query, or to it."""

    LOOKS_AT = "looks-at"
    LOOKED_AT = "looked-at"


class Method(StrEnum):
    """What is drawn."""

    ATTENTION = "attention"
    GRAD_CAM = "grad-cam"
    INPUT_GRADIENT = "input-gradient"


class Interpolation(StrEnum):
    """How maps are enlarged."""

    NEAREST = "nearest"
    BILINEAR = "bilinear"


def _stage_option(flag: str, help: str) -> Any:
    return typer.Option(flag, help=help, rich_help_panel=_STAGE)


@app.command(rich_help_panel=STAGES)
def explain(
    inputs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="INPUT...",
            help="Pictures (PNG, JPEG), films, zips of a film's pictures, and folders of them.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Output folder. With INPUT by default `attention`.")
    ] = None,
    model: Model = CHAMPION,
    size: Size = None,
    query: Annotated[
        str | None,
        typer.Option(
            metavar="QUERY",
            help="pixel:ROW,COLUMN of the input; class:NAME, the pixels predicted as a class; or"
            " mean, over all places. Default: mean.",
            rich_help_panel=_ATTENTION,
        ),
    ] = None,
    direction: Annotated[
        Direction | None,
        typer.Option(
            help="Where the query looks (default), or which places look at it.",
            rich_help_panel=_ATTENTION,
        ),
    ] = None,
    stage: Annotated[
        int | None,
        typer.Option(
            metavar="0..3",
            help="Stage, from 0, the finest. Default: 2.",
            rich_help_panel=_ATTENTION,
        ),
    ] = None,
    block: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Block of the stage, from 0; -1 is the last (default).",
            rich_help_panel=_ATTENTION,
        ),
    ] = None,
    head: Annotated[
        str | None,
        typer.Option(
            metavar="all|mean|N",
            help="All heads side by side (default), their mean, or one, from 0.",
            rich_help_panel=_ATTENTION,
        ),
    ] = None,
    method: Annotated[
        Method,
        typer.Option(
            help="Attention, or class activation: places that matter for the score of a class.",
            rich_help_panel=_ATTENTION,
        ),
    ] = Method.ATTENTION,
    truth: Annotated[
        Path | None,
        typer.Option(
            "--truth",
            help="For a plain ViT: zip or folder of labelIds on which its heads are measured, into"
            " OUT/portraits.",
            rich_help_panel=_ATTENTION,
        ),
    ] = None,
    classes_from: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="For a plain ViT: a trained model on whose predictions its heads are measured.",
            rich_help_panel=_ATTENTION,
        ),
    ] = None,
    beside: Annotated[
        bool,
        typer.Option(
            "--beside",
            help="Draw photograph, prediction and one map (the mean of the heads, or --head N)"
            " side by side.",
            rich_help_panel=_DRAWING,
        ),
    ] = False,
    interpolation: Annotated[
        Interpolation,
        typer.Option(
            help="Draw tokens as blocks, or smoothly.",
            rich_help_panel=_DRAWING,
        ),
    ] = Interpolation.BILINEAR,
    limit: Annotated[
        float | None,
        typer.Option(
            "--max",
            help="End of the color scale. Default: fitted to each picture or film.",
            rich_help_panel=_DRAWING,
        ),
    ] = None,
    width: Annotated[
        int,
        typer.Option(
            min=240, max=8192, help="Width of the result, in pixels.", rich_help_panel=_DRAWING
        ),
    ] = 1600,
    codec: CodecOption = Codec.H264,
    start: Start = None,
    end: End = None,
    every: Every = 1,
    fps: Fps = Fraction(17),
    models: Annotated[Path | None, _stage_option("--models", "Folder of all trained arms.")] = None,
    evaluations: Annotated[
        Path | None, _stage_option("--evaluations", "Folder of all arms' evaluations.")
    ] = None,
    images: Annotated[
        Path | None, _stage_option("--images", "Zip of the images, leftImg8bit.")
    ] = None,
    labels: Annotated[Path | None, _stage_option("--labels", "Zip of the remapped labels.")] = None,
    frames: Annotated[
        Path | None, _stage_option("--frames", "Table of the frames, frames.csv.")
    ] = None,
    params: Params = PARAMS,
) -> None:
    """Draw attention on pictures and films. Without INPUT: measure all heads of the best arm.

    A wall has the photograph with the query marked, a map for each head, and the color scale: gray
    is uniform attention, orange more, blue less. A film has one color scale from its first frame to
    its last. Models are those of `predict`, and the plain ViTs dino-vits16, dino-vits8, dino-vitb16
    and dino-vitb8, or a file of their weights. See docs/attention.md.

    Examples: segformer explain street.png --model data/train/ce-0 --query class:car --stage 3

    segformer explain drive.mp4 --query pixel:150,256 --direction looked-at --head 4

    Example: segformer explain --models data/train --evaluations data/evaluate
    --images left.zip --labels data/remap/labels.zip --frames data/remap/frames.csv
    --out data/explain
    """
    stage_paths = {
        "--models": models,
        "--evaluations": evaluations,
        "--images": images,
        "--labels": labels,
        "--frames": frames,
    }
    if not inputs:
        _run_stage(params, stage_paths, out)
        return
    if given := [flag for flag, path in stage_paths.items() if path is not None]:
        raise typer.BadParameter(f"{', '.join(given)}: only for the stage, which takes no INPUT")
    from pipeline.cli.attention import AttentionOptions, FilmPart, draw_attention
    from pipeline.explain.drawing import DrawingOptions
    from pipeline.explain.wall import WallStyle

    draw_attention(
        inputs,
        out or Path("attention"),
        AttentionOptions(
            model=model,
            size=size,
            query=query,
            direction=None if direction is None else direction.value,
            stage=stage,
            block=block,
            head=head,
            method=method.value,
            truth=truth,
            classes_from=classes_from,
        ),
        DrawingOptions(WallStyle(interpolation.value, width), limit, has_prediction=beside),
        FilmPart(start, end, every, fps, codec.value),
    )


def _run_stage(params: Path, paths: dict[str, Path | None], out: Path | None) -> None:
    missing = [flag for flag, path in {**paths, "--out": out}.items() if path is None]
    if len(missing) > len(paths):
        raise typer.BadParameter("name a picture, film, zip or folder to draw attention on")
    if missing:
        raise typer.BadParameter(
            f"missing {', '.join(missing)}, which the stage needs; or name a picture or film to"
            " draw attention on"
        )
    from pipeline.cli.portraits import run_portraits
    from pipeline.stages.explain import ExplainInputs

    assert out is not None
    inputs = [path for path in paths.values() if path is not None]
    run_portraits(params, inputs=ExplainInputs(*inputs), out=out)
