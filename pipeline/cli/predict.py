"""The command predict: segments pictures and films."""

from collections.abc import Sequence
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.models import Model, Size
from pipeline.cli.stages import Out
from pipeline.tracking.store import CHAMPION

if TYPE_CHECKING:
    from pipeline.video.drawing import OverlayStyle
    from segformer.inference.trained_model import TrainedModel

# Commands import what they need, so that --help stays fast.

_FILMS = "Films"
_DRAWING = "Drawing"


class Codec(StrEnum):
    """The codecs of films; the container follows."""

    H264 = "h264"
    VP9 = "vp9"
    AV1 = "av1"
    WEBP = "webp"


def parse_time(text: str) -> Fraction:
    """Parse `12.5`, `1:30` or `1:02:03` into seconds."""
    parts = text.split(":")
    try:
        if len(parts) > 3 or not all(parts):
            raise ValueError
        return sum(
            (Fraction(part) * 60**power for power, part in enumerate(reversed(parts))), Fraction(0)
        )
    except (ValueError, ZeroDivisionError):
        raise typer.BadParameter(
            f"{text!r} is not a time: give seconds, such as 12.5, or 1:30"
        ) from None


def parse_rate(text: str) -> Fraction:
    """Parse `17` or `30000/1001` into frames per second."""
    try:
        rate = Fraction(text)
        if rate <= 0:
            raise ValueError
        return rate
    except (ValueError, ZeroDivisionError):
        raise typer.BadParameter(
            f"{text!r} is not a frame rate: give frames per second, such as 17 or 30000/1001"
        ) from None


Start = Annotated[
    Fraction | None,
    typer.Option(
        parser=parse_time,
        metavar="TIME",
        help="Start of the part to read: seconds or m:ss.",
        rich_help_panel=_FILMS,
    ),
]
End = Annotated[
    Fraction | None,
    typer.Option(
        parser=parse_time,
        metavar="TIME",
        help="End of the part to read.",
        rich_help_panel=_FILMS,
    ),
]
Every = Annotated[
    int,
    typer.Option(min=1, help="Keep every N-th frame only.", rich_help_panel=_FILMS),
]
Fps = Annotated[
    Fraction,
    typer.Option(
        parser=parse_rate,
        metavar="RATE",
        help="Frames per second of a zip's pictures.",
        rich_help_panel=_FILMS,
    ),
]
CodecOption = Annotated[
    Codec,
    typer.Option(
        help="Codec of films: h264 and av1 in MP4, vp9 in WebM, webp for an animated picture.",
        rich_help_panel=_FILMS,
    ),
]


def predict(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT...",
            help="Pictures (PNG, JPEG), films, zips of a film's pictures, and folders of them.",
        ),
    ],
    out: Out = Path("predictions"),
    model: Model = CHAMPION,
    size: Size = None,
    alpha: Annotated[
        float,
        typer.Option(min=0, max=1, help="Opacity of the class colors.", rich_help_panel=_DRAWING),
    ] = 0.55,
    classes: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Classes to color, separated by commas; all others stay photograph.",
            rich_help_panel=_DRAWING,
        ),
    ] = None,
    legend: Annotated[
        bool,
        typer.Option(
            "--legend", help="Add a strip with the classes' names.", rich_help_panel=_DRAWING
        ),
    ] = False,
    labels: Annotated[
        bool | None,
        typer.Option(
            "--labels/--no-labels",
            help="Also write train ids, lossless: PNGs, and for films FFV1 in Matroska. By"
            " default for pictures only.",
        ),
    ] = None,
    codec: CodecOption = Codec.H264,
    start: Start = None,
    end: End = None,
    every: Every = 1,
    fps: Fps = Fraction(17),
    truth: Annotated[
        Path | None,
        typer.Option(
            metavar="ZIP|FOLDER",
            help="Label maps of a zip's pictures, for mIoU over the film. Default:"
            " gtFine_NAME.zip beside leftImg8bit_NAME.zip, or NAME-labels.zip beside NAME.zip.",
            rich_help_panel=_FILMS,
        ),
    ] = None,
) -> None:
    """Segment pictures and films: colored classes in overlay/, train ids in labels/.

    What cannot be read is skipped and listed at the end. See docs/films.md.

    Examples: segformer predict street.png --model data/train/ce-0

    segformer predict drive.mp4 --start 1:30 --end 2:00 --classes car,person --legend
    """
    from pipeline import errors
    from pipeline.cli import progress
    from pipeline.serving import film, predict
    from pipeline.serving.load import load_model

    files = predict.find_inputs(inputs)
    films, problems = film.open_films(files.films, start_s=start, end_s=end, every=every, fps=fps)
    if not files.images and not films:
        errors.raise_problems(problems, "predict", "with the films")
    trained_model = load_model(model, size)
    style = _make_style(trained_model, alpha, classes, legend=legend)
    if files.images:
        picture_options = predict.PictureOptions(style, has_labels=labels is not False)
        with progress.show_progress("predict", "pictures") as advance:
            failed = predict.predict(trained_model, files.images, out, advance, picture_options)
        num_done = len(files.images) - len(failed)
        typer.echo(
            f"segmented {num_done} of {len(files.images)} pictures with {trained_model.name} into"
            f" {out}"
        )
        problems += failed
    options = film.FilmOptions(style, codec.value, has_labels=bool(labels), truth=truth)
    for source in films:
        try:
            with progress.show_progress(f"predict {source.name}", "frames") as advance:
                result = film.predict_film(trained_model, source, out, options, advance)
        except (ValueError, OSError) as error:
            problems.append(errors.name_file(error, source.path))
        except (KeyboardInterrupt, SystemExit):
            typer.echo(f"stopped: {source.name} in {out} holds the frames until here", err=True)
            raise
        else:
            typer.echo("\n".join([result.describe(), *result.notes]))
            problems += result.problems
    errors.raise_problems(problems, "predict", "with the pictures and films")


def _make_style(
    model: "TrainedModel", alpha: float, classes: str | None, *, legend: bool
) -> "OverlayStyle":
    from pipeline.video.drawing import OverlayStyle

    shown_classes = None if classes is None else parse_classes(classes, model.classes)
    return OverlayStyle(alpha, shown_classes, tuple(model.classes) if legend else None)


def parse_classes(text: str, names: Sequence[str]) -> tuple[int, ...]:
    """Train ids of class names that are separated by commas.

    Raises:
        ValueError: naming those that the model does not have.
    """
    requested = [name.strip().lower() for name in text.split(",") if name.strip()]
    unknown = [name for name in requested if name not in names]
    if unknown or not requested:
        problem = f"{', '.join(unknown)} not among the model's classes" if unknown else "no class"
        raise ValueError(f"--classes {text!r}: {problem}; choose from {', '.join(names)}")
    return tuple(sorted({names.index(name) for name in requested}))
