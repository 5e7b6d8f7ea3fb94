"""Figures of the head portraits: lift by head and class; distance and entropy by block."""

from io import BytesIO
from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib.transforms import ScaledTranslation
from PIL import Image

from pipeline.evaluation.bootstrap import Floats, Intervals
from pipeline.explain.portraits.lift_scale import (
    add_lift_scale,
    draw_lifts,
    format_lift,
    text_color,
)
from pipeline.explain.portraits.measurements import HeadPortraits, uniform_distance
from pipeline.formatting import format_count, format_percent
from pipeline.plotting import (
    LIGHT_GRAY,
    TEXT_COLOR,
    Axes,
    Figure,
    add_title,
    class_colors,
    create_figure,
    save_figure,
    style_axes,
)
from segformer.cityscapes import CLASS_NAMES

_NO_KEY_COLOR = "#e4e4e4"
_STAGE_COLORS = ("#56B4E9", "#0072B2", "#E69F00", "#D55E00")


def plot_lift(portraits: HeadPortraits, *, arm: str, protocol: str, path: Path) -> None:
    """Draw the lift of every head (rows) and class (columns); numbers are significant.

    Args:
        portraits: of all heads.
        arm: the name of the model.
        protocol: of its evaluation.
        path: the PNG to write.
    """
    train_ids = np.flatnonzero(portraits.key_share > 0)
    lift = portraits.lift.value[:, train_ids]
    num_heads = len(portraits.heads)
    height = 0.25 if num_heads <= 48 else 0.17  # inches per row
    figure = create_figure(max(2.6 + 0.55 * len(train_ids), 9.0), 2.6 + height * num_heads)
    axes = figure.add_subplot()
    axes.set_facecolor(_NO_KEY_COLOR)
    image = draw_lifts(axes, lift)
    font_size = 7.5 if num_heads <= 48 else 6.0
    for row, column in np.argwhere(portraits.is_significant[:, train_ids]).tolist():
        value = lift[row, column]
        axes.text(
            column,
            row,
            format_lift(value),
            ha="center",
            va="center",
            fontsize=font_size,
            color=text_color(value),
        )
    _label_classes(axes, portraits, train_ids.tolist())
    _label_heads(axes, portraits, font_size + 0.5)
    add_lift_scale(figure, image, axes)
    add_title(
        figure,
        f"Lift by attention head and class, {arm}",
        f"{format_count(portraits.num_frames, 'frame')}     {protocol}\n"
        "lift: share of the head's attention on a class / the class's share of the keys (in %)\n"
        "number: differs from 1 (p < 0.05 after Holm's correction for all cells);"
        " no number: inconclusive",
    )
    _save_indexed(figure, path)


def plot_reach(portraits: HeadPortraits, *, arm: str, protocol: str, path: Path) -> None:
    """Draw the mean distance and the entropy of every head, with intervals, by block.

    Args:
        portraits: of all heads.
        arm: the name of the model.
        protocol: of its evaluation.
        path: the PNG to write.
    """
    figure = create_figure(max(8.0, 4 + 0.13 * len(portraits.heads)), 6.6)
    distance, entropy = figure.subplots(2, 1, sharex=True)
    positions = _plot_heads(distance, portraits, portraits.distance)
    _plot_heads(entropy, portraits, portraits.entropy)
    uniform = uniform_distance(portraits.image_size)
    for axes, value in ((distance, uniform), (entropy, 1.0)):
        axes.axhline(value, color=TEXT_COLOR, linewidth=1, linestyle=(0, (4, 3)))
        axes.set_ylim(0, None)
        axes.margins(x=0.02)
        style_axes(axes, grid="y")
    distance.annotate(
        "uniform attention",
        (positions[0], uniform),
        xytext=(0, 6),
        textcoords="offset points",
        fontsize=9,
        color=TEXT_COLOR,
    )
    distance.set_ylim(0, max(1.2 * uniform, 1.05 * float(np.nanmax(portraits.distance.value))))
    distance.set_ylabel("mean distance\n(image widths)")
    entropy.set_ylabel("entropy\n(1: uniform attention)")
    _label_blocks(entropy, portraits, positions)
    entropy.set_xlabel("stage.block, heads from left to right")
    add_title(
        figure,
        f"Distance and entropy of the attention heads, {arm}",
        f"{format_count(portraits.num_frames, 'frame')}, 95 % intervals     {protocol}",
    )
    save_figure(figure, path)


def _save_indexed(figure: Figure, path: Path) -> None:
    """Write a PNG of the 256 most frequent colors: a third of the size, for Prefect's report."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    pixels = np.asarray(Image.open(buffer).convert("RGB")).astype(np.int64)
    # Pillow's own quantization gives rare colors away, and white is not quite white.
    codes, index, counts = np.unique(
        pixels @ (1 << 16, 1 << 8, 1), return_inverse=True, return_counts=True
    )
    colors = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=1)
    palette = colors[np.argsort(-counts, kind="stable")[:256]]
    gaps = np.square(colors[:, None] - palette).sum(axis=2)
    nearest = gaps.argmin(axis=1).astype(np.uint8)
    picture = Image.fromarray(nearest[index].reshape(pixels.shape[:2]))
    picture.putpalette(palette.astype(np.uint8).tobytes())
    picture.save(path, format="PNG", optimize=True)


def _label_classes(axes: Axes, portraits: HeadPortraits, train_ids: list[int]) -> None:
    names = [f"{CLASS_NAMES[k]}  {format_percent(portraits.key_share[k])} %" for k in train_ids]
    axes.xaxis.tick_top()
    axes.set_xticks(range(len(names)), names, rotation=50, ha="left", rotation_mode="anchor")
    axes.tick_params(axis="x", length=0, labelsize=9.5, labelcolor=TEXT_COLOR, pad=9)
    axes.set_xticks(np.arange(len(names) - 1) + 0.5, minor=True)
    # A strip in the color of the class between its name and its column.
    raised = axes.get_xaxis_transform() + ScaledTranslation(0, 5 / 72, axes.figure.dpi_scale_trans)
    for column, color in enumerate(class_colors(train_ids)):
        ends = [column - 0.45, column + 0.45]
        axes.plot(
            ends,
            [1, 1],
            color=color,
            linewidth=7,
            solid_capstyle="butt",
            transform=raised,
            clip_on=False,
        )


def _label_heads(axes: Axes, portraits: HeadPortraits, font_size: float) -> None:
    """Name the rows, with a thin line below each block and a thick one below each stage."""
    heads = portraits.heads
    axes.set_yticks(range(len(heads)), [f"block {x.block}  head {x.head}" for x in heads])
    axes.tick_params(axis="y", length=0, labelsize=font_size, labelcolor=TEXT_COLOR)
    axes.tick_params(which="minor", length=0)
    axes.grid(which="minor", axis="x", color="white", linewidth=0.8)
    axes.spines[:].set_visible(False)
    for row, (above, below) in enumerate(pairwise(heads)):
        if above.stage != below.stage:
            axes.axhline(row + 0.5, color=TEXT_COLOR, linewidth=1.6)
        elif above.block != below.block:
            axes.axhline(row + 0.5, color="#888888", linewidth=0.6)
    for stage in dict.fromkeys(head.stage for head in heads):
        rows = [row for row, head in enumerate(heads) if head.stage == stage]
        axes.annotate(
            f"stage {stage}",
            (0, float(np.mean(rows))),
            xycoords=("axes fraction", "data"),
            xytext=(-76 if font_size > 7 else -66, 0),
            textcoords="offset points",
            rotation=90,
            ha="center",
            va="center",
            fontsize=10,
            fontweight="bold",
            color=TEXT_COLOR,
        )


def _plot_heads(axes: Axes, portraits: HeadPortraits, estimates: Intervals) -> Floats:
    """Draw a point with its interval per head; return the positions along the axis."""
    positions = []
    position = start = 0.0
    before = portraits.heads[0]
    for head in portraits.heads:
        if (head.stage, head.block) != (before.stage, before.block):
            # At least the width of a label from the start of one block to that of the next.
            position = max(position + 1.0, start + 3.0) + float(head.stage != before.stage)
            start = position
        positions.append(position)
        position += 1.0
        before = head
    errors = np.stack([estimates.value - estimates.low, estimates.high - estimates.value])
    for x, head, value, error in zip(
        positions, portraits.heads, estimates.value.tolist(), errors.T, strict=True
    ):
        color = _STAGE_COLORS[head.stage]
        axes.errorbar(x, value, error[:, None], fmt="o", color=color, markersize=4.5, linewidth=1.4)
    return np.asarray(positions)


def _label_blocks(axes: Axes, portraits: HeadPortraits, positions: Floats) -> None:
    blocks: dict[str, list[float]] = {}
    for head, position in zip(portraits.heads, positions.tolist(), strict=True):
        blocks.setdefault(f"{head.stage}.{head.block}", []).append(position)
    middles = [float(np.mean(xs)) for xs in blocks.values()]
    axes.set_xticks(middles, list(blocks), fontsize=10, color=TEXT_COLOR)
    axes.tick_params(axis="x", length=0, color=LIGHT_GRAY)
