"""The command `drive`: draws a drive along a street, with labels for every frame."""

from pathlib import Path
from typing import Annotated

import typer


def drive(
    out: Annotated[
        Path,
        typer.Option(help="Zip of the frames; NAME-labels.zip beside it gets the labels."),
    ] = Path("drive.zip"),
    frames: Annotated[int, typer.Option(min=1, help="Number of frames, 17 a second.")] = 170,
    size: Annotated[
        tuple[int, int], typer.Option(metavar="ROWS COLUMNS", help="Size of a frame in pixels.")
    ] = (256, 512),
    seed: Annotated[
        int, typer.Option(min=0, help="Decides the street and all that moves along it.")
    ] = 0,
) -> None:
    """Draw a drive: one street seen by a camera that moves along it, and its labels.

    The zips have the layout of the official demo video, so `segformer predict`
    reads them as films. A longer drive begins with the frames of a shorter one.
    See docs/synthetic.md.

    Example: segformer drive --out street.zip --frames 300 --size 512 1024 --seed 3
    """
    from pipeline import synthetic
    from pipeline.cli import progress
    from pipeline.disk import explain_disk_full

    if out.suffix != ".zip":
        raise ValueError(f"drive: --out {out} must end in .zip, for example {out.stem}.zip")
    labels = out.with_name(f"{out.stem}-labels.zip")
    with (
        progress.show_progress("drive", "frames") as advance,
        explain_disk_full(out.parent, label="drive"),
    ):
        synthetic.write_drive(out, labels, frames=frames, size=size, seed=seed, progress=advance)
    typer.echo(f"{frames} frames in {out}, their labels in {labels}; as a film with the")
    typer.echo(f"predicted classes: segformer predict {out}")
