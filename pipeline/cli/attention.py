"""Draws attention on pictures and films, for the command `explain`."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import typer

from pipeline import errors
from pipeline.cli import progress
from pipeline.explain.activation_explainer import ActivationExplainer
from pipeline.explain.attention_explainer import AttentionExplainer, AttentionRequest, Direction
from pipeline.explain.cls_explainer import ClsExplainer
from pipeline.explain.drawing import DrawingOptions, draw_pictures
from pipeline.explain.explainer import Explainer
from pipeline.explain.film import draw_film
from pipeline.explain.maps import HeadChoice
from pipeline.explain.queries import parse_query
from pipeline.formatting import format_count
from pipeline.serving.film import open_films
from pipeline.serving.load import load_model
from pipeline.serving.predict import find_inputs
from pipeline.video.codecs import Codec
from pipeline.video.frames import FrameSource
from segformer.explain.class_activation import Method
from segformer.vit.variants import VARIANTS

_COMMAND = "explain"


@dataclass(frozen=True)
class AttentionOptions:
    """What is drawn, as given; None: not given.

    Attributes:
        model: reference of the model.
        size: rows and columns of the network's input.
        query: place.
        direction: from it, or to it.
        stage: number.
        block: number.
        head: `all`, `mean` or a number.
        method: attention or a kind of class activation.
        truth: for a plain ViT: labels on which its heads are measured.
        classes_from: for a plain ViT: a model on whose predictions its heads are measured.
    """

    model: str
    size: tuple[int, int] | None = None
    query: str | None = None
    direction: Direction | None = None
    stage: int | None = None
    block: int | None = None
    head: str | None = None
    method: Literal["attention", "grad-cam", "input-gradient"] = "attention"
    truth: Path | None = None
    classes_from: str | None = None

    def given(self, *names: str) -> list[str]:
        """The flags of those options that are given."""
        return [f"--{name}" for name in names if getattr(self, name) is not None]


@dataclass(frozen=True)
class FilmPart:
    """The part of films that is drawn, and their codec; as in `open_films`."""

    start_s: Fraction | None = None
    end_s: Fraction | None = None
    every: int = 1
    fps: Fraction = Fraction(17)
    codec: Codec = "h264"


def draw_attention(
    inputs: Sequence[Path],
    out: Path,
    options: AttentionOptions,
    drawing: DrawingOptions,
    part: FilmPart,
) -> None:
    """Draw each picture and film; list at the end what could not be drawn.

    Raises:
        ValueError: for options that contradict each other or do not fit the model, a model that
            cannot be loaded, or naming the inputs that could not be drawn.
    """
    files = find_inputs(inputs, _COMMAND)
    films, problems = open_films(
        files.films, start_s=part.start_s, end_s=part.end_s, every=part.every, fps=part.fps
    )
    if not files.images and not films:
        errors.raise_problems(problems, _COMMAND, "with the films")
    explainer = make_explainer(options, has_prediction=drawing.has_prediction)
    if options.truth is not None or options.classes_from is not None:
        _measure_heads(explainer, files.images, films, out, options)
    if drawing.limit is not None:
        explainer.make_scale(drawing.limit)  # refused before anything is drawn
    if files.images:
        with progress.show_progress(_COMMAND, "pictures") as advance:
            failed = draw_pictures(explainer, files.images, out, drawing, advance)
        num_done = len(files.images) - len(failed)
        count = format_count(len(files.images), "picture")
        typer.echo(f"drew {num_done} of {count} into {out}")
        problems += failed
    for source in films:
        try:
            with progress.show_progress(f"{_COMMAND} {source.name}", "frames") as advance:
                result = draw_film(
                    explainer, source, out, drawing, codec=part.codec, progress=advance
                )
        except (ValueError, OSError) as error:
            problems.append(errors.name_file(error, source.path))
        except (KeyboardInterrupt, SystemExit):
            typer.echo(f"stopped: {source.name} in {out} holds the frames until here", err=True)
            raise
        else:
            typer.echo("\n".join([result.describe(), *result.notes]))
            problems += result.problems
    errors.raise_problems(problems, _COMMAND, "with the pictures and films")


def _measure_heads(
    explainer: Explainer,
    images: dict[str, Path],
    films: Sequence[FrameSource],
    out: Path,
    options: AttentionOptions,
) -> None:
    if not isinstance(explainer, ClsExplainer):
        raise ValueError(
            "--truth, --classes-from: only for plain ViTs; the stage `explain` measures the heads"
            " of a trained SegFormer"
        )
    if options.truth is not None and options.classes_from is not None:
        raise ValueError("--truth and --classes-from: give one of them")
    classes_from = options.classes_from if options.truth is None else options.truth
    assert classes_from is not None
    from pipeline.cli.vit_portraits import measure_heads

    measure_heads(explainer, images, films, out, classes_from=classes_from)


def make_explainer(options: AttentionOptions, *, has_prediction: bool) -> Explainer:
    """Load the model and return what explains with it.

    Raises:
        ValueError: for options that contradict each other or do not fit the model, or a model that
            cannot be loaded.
    """
    head = parse_head(options.head, has_prediction=has_prediction)
    if is_plain_vit(options.model):
        return _make_cls_explainer(options, head, has_prediction=has_prediction)
    query = parse_query("mean" if options.query is None else options.query)
    if options.method == "attention":
        defaults = AttentionRequest(query)
        request = AttentionRequest(
            query,
            options.direction or defaults.direction,
            defaults.stage if options.stage is None else options.stage,
            defaults.block if options.block is None else options.block,
            head,
        )
        return AttentionExplainer(load_model(options.model, options.size), request)
    if given := options.given("direction", "stage", "block", "head"):
        raise ValueError(
            f"{', '.join(given)}: only for --method attention; class activation takes the whole"
            " network"
        )
    method: Method = "grad_cam" if options.method == "grad-cam" else "input_gradient"
    return ActivationExplainer(load_model(options.model, options.size), query, method)


def is_plain_vit(model: str) -> bool:
    """Whether a model's name or file is that of a plain ViT; those of SegFormer are folders."""
    return model.removeprefix("facebook/") in VARIANTS or Path(model).is_file()


def parse_head(text: str | None, *, has_prediction: bool) -> HeadChoice:
    """Parse `all`, `mean` or a number; beside a prediction there is room for one map.

    Raises:
        ValueError: for anything else.
    """
    if text is None:
        return "mean" if has_prediction else "all"
    if text == "mean":
        return "mean"
    if text == "all":
        if has_prediction:
            raise ValueError("--beside draws one map: give --head mean or the number of a head")
        return "all"
    if text.isdecimal():
        return int(text)
    raise ValueError(f"--head {text}: give all, mean, or the number of a head, from 0")


def _make_cls_explainer(
    options: AttentionOptions, head: HeadChoice, *, has_prediction: bool
) -> ClsExplainer:
    given = options.given("query", "direction", "stage", "block")
    if options.method != "attention":
        given.append("--method")
    if has_prediction:
        given.append("--beside")
    if given:
        raise ValueError(
            f"{', '.join(given)}: not for {options.model}, a plain ViT without classes; its maps"
            " are those of the CLS token in the last block"
        )
    from pipeline.explain.dino import load_dino
    from segformer.device import best_device

    network = load_dino(options.model, report=typer.echo).to(best_device())
    return ClsExplainer(options.model, network, size=options.size, head=head)
