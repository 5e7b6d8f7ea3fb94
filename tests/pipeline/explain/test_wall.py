"""pipeline.explain.wall: where panels and numbers are, and the colors in them."""

import numpy as np
import pytest

from pipeline.explain.maps import HeadMaps
from pipeline.explain.scale import MIDDLE_GRAY, ColorScale
from pipeline.explain.wall import Caption, Wall, WallStyle, draw_note, draw_wall, tick_offset

MIDDLE = np.full((32, 64, 3), 128, dtype=np.uint8)
"""A photograph whose gray is that below the scale bar."""

BACKGROUND = 24


def make_caption(num_heads: int) -> Caption:
    """The words of a wall of heads."""
    names = (f"head {head}" for head in range(num_heads))
    return Caption("Title", "Subtitle", ("photograph", *names))


def find_panels(plan: Wall) -> list[tuple[slice, slice]]:
    """Rows and columns of the panels: the pixels that change with each of them."""
    number = len(plan.caption.names)
    black, white = (np.full((*plan.panel_size, 3), level, np.uint8) for level in (0, 255))
    boxes = []
    for index in range(number):
        panels = [white if place == index else black for place in range(number)]
        is_changed = plan.compose(panels) != plan.compose([black] * number)
        rows, columns = is_changed.all(2).nonzero()
        boxes.append(np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1])
    return boxes


def test_hot_key_lights_its_head_and_place() -> None:
    """One key of one head above uniform attention colors its rectangle, and nothing else."""
    values = np.ones((5, 2, 4), dtype=np.float32)
    values[3, 1, 2] = 4
    wall = draw_wall(MIDDLE, HeadMaps(values), ColorScale(4), make_caption(5))
    plan = Wall(make_caption(5), ColorScale(4), (32, 64))
    panels = [wall[box] for box in find_panels(plan)]
    for index, panel in enumerate(panels):
        is_colored = np.ptp(panel.astype(int), axis=2) > 30
        if index != 4:
            assert not is_colored.any()
            continue
        height, width = is_colored.shape
        expected = np.zeros_like(is_colored)
        expected[height // 2 :, width // 2 : width * 3 // 4] = True
        assert (is_colored == expected).mean() > 0.98


def test_bar_has_the_colors_of_its_numbers() -> None:
    """At each number the scale bar has the color that a map has for that value."""
    scale = ColorScale(4)
    values = np.array([[[value for value, _ in scale.ticks]]], dtype=np.float32)
    style = WallStyle(width=1000)
    caption = Caption("Title", "Subtitle", ("photograph", "head 0"))
    wall = draw_wall(MIDDLE, HeadMaps(values), scale, caption, style=style)
    plan = Wall(caption, scale, (32, 64), 1000)
    left, top, right, bottom = plan.bar_box
    width = plan.panel_size[1]
    panel_row = wall[wall.shape[0] // 2, -width - 10 : -10]
    for index, (value, _) in enumerate(scale.ticks):
        in_bar = wall[(top + bottom) // 2, left + tick_offset(scale, value, right - left)]
        in_map = panel_row[(2 * index + 1) * width // 10]
        np.testing.assert_allclose(in_map.astype(int), in_bar.astype(int), atol=2)
    gray = wall[(top + bottom) // 2, left + tick_offset(scale, 1, right - left)]
    np.testing.assert_allclose(MIDDLE_GRAY, gray, atol=2)


@pytest.mark.parametrize(
    ("num_heads", "lines", "per_line"),
    [(1, 1, 2), (2, 1, 3), (5, 2, 3), (8, 3, 3), (6, 2, 4), (12, 3, 5)],
)
def test_grids(num_heads: int, lines: int, per_line: int) -> None:
    """Photograph and heads of each stage, and of the plain ViTs, fill a grid."""
    plan = Wall(make_caption(num_heads), ColorScale(4), (32, 64), 1200)
    boxes = find_panels(plan)
    corners = [(rows.start, columns.start) for rows, columns in boxes]
    assert corners == sorted(corners)
    assert (lines, per_line) == tuple(len(set(starts)) for starts in zip(*corners, strict=True))
    assert all(wide.stop <= 1200 and high.stop <= plan.rows for high, wide in boxes)


@pytest.mark.parametrize("size", [(32, 64), (300, 100), (1, 1000)])
@pytest.mark.parametrize("width", [240, 1001])
def test_any_shape(size: tuple[int, int], width: int) -> None:
    """Walls have the requested width and an even height, for any photograph."""
    photograph = np.zeros((*size, 3), dtype=np.uint8)
    maps = HeadMaps(np.ones((2, 3, 3), dtype=np.float32))
    style = WallStyle("bilinear", width)
    wall = draw_wall(photograph, maps, ColorScale(16), make_caption(2), style=style)
    assert width == wall.shape[1]
    assert 0 == wall.shape[0] % 2


def test_long_title_is_shortened() -> None:
    """A title never runs out of the picture."""
    caption = Caption("W" * 500, "w" * 500, ("photograph", "head 0 " * 50))
    plan = Wall(caption, ColorScale(4), (32, 64), 400)
    empty = plan.compose([])
    assert (empty[:, -3:] == BACKGROUND).all()
    assert (empty[:20, 10:300] > BACKGROUND).any()


def test_note_is_written_in_the_middle() -> None:
    """A note changes the middle of a panel, not its corners."""
    panel = np.full((100, 300, 3), 100, dtype=np.uint8)
    noted = draw_note(panel, "no car here")
    assert (noted[45:55, 130:170] != 100).any()
    assert (noted[:20] == 100).all()
