"""Draws explanations: a wall of maps, or photograph, prediction and map side by side."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.errors import name_file
from pipeline.explain.explainer import Explainer, Explanation
from pipeline.explain.panels import (
    Size,
    draw_gray,
    draw_mark,
    plan_mark,
    resize_photograph,
)
from pipeline.explain.scale import ColorScale
from pipeline.explain.wall import Caption, Wall, WallStyle, draw_map_panels, draw_note
from pipeline.video.drawing import draw_overlay
from segformer.atomic import replacing
from segformer.data.resize import resize_labels
from segformer.device import explain_out_of_memory
from segformer.images import decode_photograph

_DEFAULT_LIMIT = 4.0  # of a scale, where the query does not occur


@dataclass(frozen=True)
class DrawingOptions:
    """How explanations are drawn.

    Attributes:
        style: interpolation and width.
        limit: the end of the color scale; None: fitted to each picture or film.
        has_prediction: draw photograph, prediction and the first map side by side, not a wall.
    """

    style: WallStyle
    limit: float | None = None
    has_prediction: bool = False


class Painter:
    """Draws the explanations of photographs of one size with one color scale.

    Args:
        explainer: for the words.
        photograph_size: rows and columns.
        scale: the colors.
        options: how.
    """

    def __init__(
        self,
        explainer: Explainer,
        photograph_size: Size,
        scale: ColorScale,
        options: DrawingOptions,
    ) -> None:
        middle = ("prediction",) if options.has_prediction else ()
        names = ("photograph", *middle, *explainer.names)
        caption = Caption(explainer.title, explainer.subtitle, names)
        self.wall = Wall(caption, scale, photograph_size, options.style.width)
        self._num_maps = len(explainer.names)
        self._options = options

    def draw(self, photograph: NDArray[np.uint8], explanation: Explanation) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB and its explanation -> (wall.rows, wall.columns, 3) uint8 RGB."""
        resized = resize_photograph(photograph, self.wall.panel_size)
        lines = plan_mark(explanation.mark, self.wall.panel_size)
        panels = [draw_mark(resized, lines)]
        if self._options.has_prediction:
            assert explanation.classes is not None  # refused by the command
            classes = resize_labels(explanation.classes, self.wall.panel_size)
            panels.append(draw_overlay(resized, classes))
        if explanation.maps is None:
            gray = np.repeat(draw_gray(resized)[..., None], 3, axis=2)
            maps = [draw_note(gray, explanation.note)] * self._num_maps
        else:
            interpolation = self._options.style.interpolation
            maps = draw_map_panels(resized, explanation.maps, self.wall.scale, lines, interpolation)
        return self.wall.compose([*panels, *maps])


def choose_scale(
    explainer: Explainer, explanations: list[Explanation], limit: float | None
) -> ColorScale:
    """The scale that ends at `limit`, or one that covers all explanations."""
    values = [made.maps.values.ravel() for made in explanations if made.maps is not None]
    if limit is not None or not values:
        return explainer.make_scale(limit or _DEFAULT_LIMIT)
    return explainer.fit_scale(np.concatenate(values))


def draw_pictures(
    explainer: Explainer,
    images: dict[str, Path],
    out: Path,
    options: DrawingOptions,
    progress: Callable[[int, int], None],
) -> list[str]:
    """Write a PNG for each photograph, whole or not at all, each with a color scale of its own.

    Args:
        explainer: what is drawn.
        images: output name, without suffix -> picture.
        out: the folder to write below.
        options: how.
        progress: called with the number of pictures done and in total.

    Returns:
        A line for each picture that could not be read or explained, or where the query does not
        occur; the others are written.
    """
    problems = []
    for done, (name, path) in enumerate(images.items(), start=1):
        try:
            photograph = decode_photograph(path.read_bytes(), str(path))
            with explain_out_of_memory(path, photograph.shape[:2]):
                explanation = explainer.explain(photograph)
            if explanation.maps is None:
                raise ValueError(f"{explanation.note}: nothing is drawn")
            scale = choose_scale(explainer, [explanation], options.limit)
        except (ValueError, OSError) as error:
            problems.append(name_file(error, path))
        else:
            size = photograph.shape[0], photograph.shape[1]
            picture = Painter(explainer, size, scale, options).draw(photograph, explanation)
            save_picture(picture, out / f"{name}.png")
        progress(done, len(images))
    return problems


def save_picture(picture: NDArray[np.uint8], path: Path) -> None:
    """Write (h, w, 3) uint8 RGB as a PNG, whole or not at all."""
    with replacing(path) as part:
        Image.fromarray(picture).save(part, format="PNG", compress_level=6)
