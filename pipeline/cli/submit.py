"""The command `submit`: make the zip for the Cityscapes test server, or check one."""

from pathlib import Path
from typing import Annotated

import typer

# Nothing heavy up here: --help answers in a moment, each command imports what it needs.


def submit(
    model: Annotated[
        Path | None, typer.Option("--model", help="The folder of the trained model.")
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option("--images", help="The zip, or the folder, with leftImg8bit/ in it."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The zip to write.")] = None,
    check: Annotated[
        Path | None,
        typer.Option("--check", help="Instead: say all that is wrong with this zip."),
    ] = None,
    split: Annotated[str, typer.Option("--split", help="Of the photographs.")] = "test",
    params: Annotated[Path, typer.Option("--params", help="The parameters.")] = Path("params.yaml"),
) -> None:
    """Predict the test frames into the zip that the Cityscapes server takes, or check such a zip.

    Frames are shown to the network as the section `evaluate` says. With
    --check and no --images, a zip is compared with what is known of the
    official test set: 1525 frames of 1024 x 2048 pixels in six cities.

    Example: python -m pipeline submit --model data/train/ce-0
    --images data/download/leftImg8bit_trainvaltest.zip --out submission.zip

    Example: python -m pipeline submit --check submission.zip
    """
    if check is not None:
        if model is not None or out is not None:
            raise typer.BadParameter("--check reads a zip, and goes with neither --model nor --out")
        _check(check, images, split)
        return
    given = {"--model": model, "--images": images, "--out": out}
    missing = [flag for flag, value in given.items() if value is None]
    if model is None or images is None or out is None:
        raise typer.BadParameter(f"{', '.join(missing)} missing; or --check ZIP to look at one")
    _write(model, images, out, split=split, params=params)


def _write(model: Path, images: Path, out: Path, *, split: str, params: Path) -> None:
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
    typer.echo(f"{out} holds {format_count(frames, 'prediction')} of {model}")
    if split != "test":
        typer.echo(f"the server takes the split test; this is {split}")


def _check(path: Path, images: Path | None, split: str) -> None:
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
        told = format_count(len(verdict.problems), "problem")
        raise ValueError(f"{path}: {told} that the server would refuse or score as misses")
    against = "the photographs" if images else "what is known of the official test set"
    typer.echo(
        f"{path} is well: {format_count(verdict.frames, 'prediction')}, compared with {against}"
    )
