"""A wall of panels: title, photograph, one map for each head, and the scale bar."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pipeline.explain.maps import HeadMaps
from pipeline.explain.panels import (
    Interpolation,
    Mark,
    MarkLines,
    Size,
    draw_gray,
    draw_mark,
    plan_mark,
    resize_map,
    resize_photograph,
)
from pipeline.explain.scale import MIDDLE_GRAY, ColorScale, blend_colors

WIDTH = 1600
"""Default width of a wall, in pixels."""

_BACKGROUND, _TEXT, _FAINT = (24, 24, 24), (240, 240, 240), (176, 176, 176)


@dataclass(frozen=True)
class Caption:
    """The words of a wall.

    Attributes:
        title: the first line.
        subtitle: the second line, smaller.
        names: of the panels, in order.
    """

    title: str
    subtitle: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Wall:
    """The fixed parts of a wall, and where its panels are.

    Attributes:
        caption: its words.
        scale: its scale bar.
        photograph_size: rows and columns of the photograph, for the shape of the panels.
        width: of the wall, in pixels.
    """

    caption: Caption
    scale: ColorScale
    photograph_size: Size
    width: int = WIDTH

    @property
    def rows(self) -> int:
        """Height of the wall, in pixels; even, as films need it."""
        lines = self._num_lines * (self._label_height + self.panel_size[0] + self._gap)
        rows = self._header_height + lines + self._footer_height
        return rows + rows % 2

    @property
    def columns(self) -> int:
        """Width of the wall, in pixels."""
        return self.width

    @property
    def panel_size(self) -> Size:
        """Rows and columns of every panel."""
        columns = (self.width - (self._per_line + 1) * self._gap) // self._per_line
        height, width = self.photograph_size
        return max(1, round(columns * height / width)), columns

    def compose(self, panels: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """Put panels, (*panel_size, 3) uint8 RGB each, into the wall; (rows, columns, 3)."""
        wall = self._background.copy()
        height, width = self.panel_size
        for index, panel in enumerate(panels):
            top, left = self._corner(index)
            wall[top : top + height, left : left + width] = panel
        return wall

    @cached_property
    def _background(self) -> NDArray[np.uint8]:
        canvas = Image.new("RGB", (self.columns, self.rows), _BACKGROUND)
        pen = ImageDraw.Draw(canvas)
        size, gap = self._font_size, self._gap
        room = self.width - 2 * gap
        _write(pen, (gap, gap + 0.6 * size), self.caption.title, 1.25 * size, room)
        middle = gap + 1.9 * size
        _write(pen, (gap, middle), self.caption.subtitle, size, room, fill=_FAINT)
        for index, name in enumerate(self.caption.names):
            top, left = self._corner(index)
            place = left, top - self._label_height / 2
            _write(pen, place, name, size, self.panel_size[1])
        draw_scale_bar(canvas, self.scale, self.bar_box, size)
        return np.asarray(canvas)

    def _corner(self, index: int) -> tuple[int, int]:
        """Top and left of a panel."""
        line, place = divmod(index, self._per_line)
        height, width = self.panel_size
        top = self._header_height + line * (self._label_height + height + self._gap)
        return top + self._label_height, self._gap + place * (width + self._gap)

    @property
    def _per_line(self) -> int:
        """Panels side by side: nearly as many as there are lines, with few places left empty."""
        count = len(self.caption.names)
        if count <= 3:
            return max(count, 1)
        root = int(np.ceil(np.sqrt(count)))
        return min((root, root + 1), key=lambda columns: -count % columns)

    @property
    def _num_lines(self) -> int:
        return -(-len(self.caption.names) // self._per_line)

    @property
    def _font_size(self) -> int:
        return int(np.clip(self.width / 75, 11, 40))

    @property
    def _gap(self) -> int:
        return max(6, self._font_size // 2)

    @property
    def _label_height(self) -> int:
        return round(1.5 * self._font_size)

    @property
    def _header_height(self) -> int:
        return round(3.2 * self._font_size)

    @property
    def _footer_height(self) -> int:
        return round(2.9 * self._font_size) + self._gap

    @property
    def bar_box(self) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of the scale bar."""
        top = self.rows - self._footer_height + self._gap // 2
        size = self._font_size
        right = min(self.width * 11 // 20, self.width - 2 * self._gap - 10 * size)
        return self._gap + round(1.3 * size), top, right, top + size


@dataclass(frozen=True)
class WallStyle:
    """How walls are drawn.

    Attributes:
        interpolation: of the maps.
        width: of the wall, in pixels.
    """

    interpolation: Interpolation = "nearest"
    width: int = WIDTH


def draw_wall(
    photograph: NDArray[np.uint8],
    maps: HeadMaps,
    scale: ColorScale,
    caption: Caption,
    *,
    mark: Mark | None = None,
    style: WallStyle | None = None,
) -> NDArray[np.uint8]:
    """Draw the photograph with the query marked, one map for each head, and the scale bar.

    Args:
        photograph: (H, W, 3) uint8 RGB.
        maps: of the heads.
        scale: the colors.
        caption: the words; names for the photograph and for each head.
        mark: the query.
        style: None: the defaults.

    Returns:
        (rows, columns, 3) uint8 RGB.
    """
    style = style or WallStyle()
    wall = Wall(caption, scale, (photograph.shape[0], photograph.shape[1]), style.width)
    resized = resize_photograph(photograph, wall.panel_size)
    lines = plan_mark(mark, wall.panel_size)
    panels = draw_map_panels(resized, maps, scale, lines, style.interpolation)
    return wall.compose([draw_mark(resized, lines), *panels])


def draw_map_panels(
    photograph: NDArray[np.uint8],
    maps: HeadMaps,
    scale: ColorScale,
    lines: MarkLines | None,
    interpolation: Interpolation,
) -> list[NDArray[np.uint8]]:
    """Draw a panel per head over a photograph of the size of a panel, (h, w, 3) uint8 RGB."""
    gray = draw_gray(photograph)
    size = gray.shape[0], gray.shape[1]
    # Places on the scale are interpolated, not values: halfway between 1/4 and 4 is 1.
    enlarged = (
        resize_map(positions, size, coverage=maps.coverage, interpolation=interpolation)
        for positions in scale.positions(maps.values)
    )
    return [draw_mark(blend_colors(gray, positions), lines) for positions in enlarged]


def draw_note(panel: NDArray[np.uint8], text: str) -> NDArray[np.uint8]:
    """Return a panel, (h, w, 3) uint8 RGB, with a line of text in its middle."""
    canvas = Image.fromarray(panel)
    pen = ImageDraw.Draw(canvas)
    height, width = panel.shape[:2]
    font = _font(max(11, width / 24))
    box = pen.textbbox((width / 2, height / 2), text, font=font, anchor="mm")
    pen.rectangle((box[0] - 6, box[1] - 4, box[2] + 6, box[3] + 4), fill=_BACKGROUND)
    pen.text((width / 2, height / 2), text, fill=_TEXT, font=font, anchor="mm")
    return np.asarray(canvas)


def draw_scale_bar(
    canvas: Image.Image, scale: ColorScale, box: tuple[int, int, int, int], font_size: float
) -> None:
    """Draw the colors of a scale over middle gray, its numbers below, and its unit at the right.

    Args:
        canvas: RGB, to draw on.
        scale: the colors.
        box: left, top, right and bottom of the bar, in pixels; right and bottom exclusive.
        font_size: in pixels.
    """
    left, top, right, bottom = box
    first = -1 if scale.is_ratio else 0
    gray = np.full((bottom - top, right - left), MIDDLE_GRAY, dtype=np.uint8)
    positions = np.linspace(first, 1, right - left, dtype=np.float32)
    bar = blend_colors(gray, np.broadcast_to(positions, gray.shape))
    canvas.paste(Image.fromarray(bar), (left, top))
    pen = ImageDraw.Draw(canvas)
    pen.rectangle((left - 1, top - 1, right, bottom), outline=_FAINT)
    for value, text in scale.ticks:
        x = left + tick_offset(scale, value, right - left)
        pen.line((x, bottom, x, bottom + font_size // 4), fill=_TEXT)
        place = (x, bottom + 0.95 * font_size)
        pen.text(place, text, fill=_TEXT, font=_font(font_size), anchor="mm")
    room = canvas.width - right - 2 * font_size
    _write(pen, (right + font_size, (top + bottom) / 2), scale.unit, font_size, room)


def tick_offset(scale: ColorScale, value: float, length: int) -> int:
    """The pixel of a value in a scale bar of `length` pixels."""
    position = float(scale.positions(np.array([value]))[0])
    return round(((position + 1) / 2 if scale.is_ratio else position) * (length - 1))


def _write(
    pen: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    size: float,
    room: float,
    fill: tuple[int, int, int] = _TEXT,
) -> None:
    """Write one line, shortened to its room, its left middle at a place."""
    font = _font(size)
    if pen.textlength(text, font=font) > room:
        while text and pen.textlength(text + "...", font=font) > room:
            text = text[:-1]
        text = text.rstrip() + "..."
    pen.text(place, text, fill=fill, font=font, anchor="lm")


def _font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(round(size))
