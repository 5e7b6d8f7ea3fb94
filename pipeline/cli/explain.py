"""The command `explain`: without pictures the stage, which measures the best arm's heads."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.stages import PARAMS, STAGES, Params, path_option

# Commands import what they need, so that --help stays fast.

app = typer.Typer()


@app.command(rich_help_panel=STAGES)
def explain(
    models: Annotated[
        Path | None, path_option("--models", "Stage: folder of all trained arms.")
    ] = None,
    evaluations: Annotated[
        Path | None, path_option("--evaluations", "Stage: folder of all arms' evaluations.")
    ] = None,
    images: Annotated[
        Path | None, path_option("--images", "Stage: zip of the images, leftImg8bit.")
    ] = None,
    labels: Annotated[
        Path | None, path_option("--labels", "Stage: zip of the remapped labels.")
    ] = None,
    frames: Annotated[
        Path | None, path_option("--frames", "Stage: table of the frames, frames.csv.")
    ] = None,
    out: Annotated[Path | None, path_option("--out", "Output folder.")] = None,
    params: Params = PARAMS,
) -> None:
    """Measure the attention heads of the best arm: classes, distance, entropy, with intervals.

    Example: segformer explain --models data/train --evaluations data/evaluate
    --images left.zip --labels data/remap/labels.zip --frames data/remap/frames.csv
    --out data/explain
    """
    from pipeline.cli.portraits import run_portraits
    from pipeline.stages.explain import ExplainInputs

    paths = {
        "--models": models,
        "--evaluations": evaluations,
        "--images": images,
        "--labels": labels,
        "--frames": frames,
        "--out": out,
    }
    missing = [flag for flag, path in paths.items() if path is None]
    if missing:
        raise typer.BadParameter(f"missing {', '.join(missing)}, which the stage needs")
    *inputs, folder = [path for path in paths.values() if path is not None]
    run_portraits(params, inputs=ExplainInputs(*inputs), out=folder)
