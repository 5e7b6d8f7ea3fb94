"""The command `submit`: writes the zip for the Cityscapes test server, or checks one."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.stages import PARAMS, Params

# Commands import what they need, so that --help stays fast.


def submit(
    model: Annotated[
        Path | None, typer.Option("--model", help="Folder of the trained model.")
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option("--images", help="Zip or folder that contains leftImg8bit/."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Zip file to write.")] = None,
    check: Annotated[
        Path | None,
        typer.Option("--check", help="Instead of predicting: list all problems of this zip."),
    ] = None,
    split: Annotated[
        str, typer.Option("--split", help="Split to predict; the server accepts only test.")
    ] = "test",
    params: Params = PARAMS,
) -> None:
    """Predict the test frames and write the zip for the Cityscapes test server, or check a zip.

    Input size, sliding window and scales are those of the section `evaluate`.
    With --check, the zip is compared with --images, or without --images with
    the official test set: 1525 frames of 1024 x 2048 pixels in six cities.

    Example: segformer submit --model data/train/ce-0
    --images data/download/leftImg8bit_trainvaltest.zip --out submission.zip

    Example: segformer submit --check submission.zip
    """
    if check is not None:
        if model is not None or out is not None:
            raise typer.BadParameter("--check cannot be combined with --model or --out")
        _check_zip(check, images, split)
        return
    required = {"--model": model, "--images": images, "--out": out}
    missing = [flag for flag, value in required.items() if value is None]
    if model is None or images is None or out is None:
        raise typer.BadParameter(f"missing {', '.join(missing)}; or check a zip with --check")
    _write_zip(model, images, out, split=split, params=params)


def _write_zip(model: Path, images: Path, out: Path, *, split: str, params: Path) -> None:
    from pipeline.cli import progress
    from pipeline.formatting import format_count
    from pipeline.official.submission import write_submission
    from pipeline.params import load
    from segformer.cityscapes import NUM_CLASSES
    from segformer.device import best_device
    from segformer.inference.predictor import Predictor
    from segformer.weights import checkpoint

    settings = load.load_config(params).evaluate.inference_settings
    network = checkpoint.load(model, best_device(), num_classes=NUM_CLASSES)
    predictor = Predictor(network, settings)
    with progress.show_progress("submit", "frames") as advance:
        frames = write_submission(predictor, images, out, split=split, progress=advance)
    typer.echo(f"{out}: {format_count(frames, 'prediction')} of {model}")
    if split != "test":
        typer.echo(f"warning: the server accepts only the split test, this is {split}")


def _check_zip(path: Path, images: Path | None, split: str) -> None:
    from pipeline.cli import progress
    from pipeline.formatting import format_count
    from pipeline.official.submission_check import check_submission

    with progress.show_progress("check", "predictions") as advance:
        verdict = check_submission(path, images, split=split, progress=advance)
    for note in verdict.notes:
        typer.echo(f"note: {note}")
    for problem in verdict.problems:
        typer.echo(problem)
    if verdict.problems:
        count = format_count(len(verdict.problems), "problem")
        raise ValueError(f"{path}: {count} that the server would reject or score as errors")
    reference = "the images" if images else "the official test set"
    count = format_count(verdict.frames, "prediction")
    typer.echo(f"{path}: no problems found; {count}, compared with {reference}")
