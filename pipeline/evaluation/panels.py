"""One frame in four pictures: the photograph, the truth, the prediction, and where they differ."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.formatting import format_count, format_percent
from pipeline.plotting import (
    LIGHT_GRAY,
    class_colors,
    create_figure,
    make_legend_patch,
    save_figure,
)
from segformer.cityscapes import CLASS_NAMES, IGNORE, palette

_ERROR_COLOR = (230, 0, 60)
_VOID_COLOR = (25, 25, 25)
_FIGURE_WIDTH = 15.0  # inches


@dataclass(frozen=True)
class FramePanel:
    """A frame and what a model saw in it.

    Attributes:
        key: of the frame.
        photograph: (h, w, 3) uint8 RGB.
        truth: (h, w) uint8 train ids, IGNORE where nothing is scored.
        predicted: (h, w) uint8 train ids.
    """

    key: str
    photograph: NDArray[np.uint8]
    truth: NDArray[np.uint8]
    predicted: NDArray[np.uint8]


@dataclass(frozen=True)
class SelectedFrame:
    """A frame that gets a panel.

    Attributes:
        file: the panel's name, `worst_01_munster_000000_000019.png`.
        key: of the frame.
        miou: over the classes that occur in it, 0..1.
        reason: why it is shown, `number 1 of the worst of 500 frames`.
    """

    file: str
    key: str
    miou: float
    reason: str


def select_frames(per_image: pd.DataFrame, *, worst: int, typical: int) -> list[SelectedFrame]:
    """Choose the frames of lowest mIoU, lowest first, and those nearest to the median.

    Args:
        per_image: columns frame and miou; a frame without mIoU is all void, neither good nor bad.
        worst: how many of the lowest.
        typical: how many around the median, nearest first; none that is among the worst.
    """
    miou = per_image.set_index("frame")["miou"].dropna().sort_values(kind="stable")
    ranked = miou.iloc[:worst]
    rest = miou.iloc[worst:]
    near = (rest - miou.median()).abs().sort_values(kind="stable").index[:typical]
    whole = f"of {format_count(len(miou), 'frame')}"
    return [
        *_rank_frames(ranked, "worst", f"of the worst {whole}"),
        *_rank_frames(rest[near], "typical", f"of those nearest to the median {whole}"),
    ]


def draw_panels(
    folder: Path,
    frames: Sequence[SelectedFrame],
    load_panel: Callable[[str], FramePanel],
    *,
    name: str,
    protocol: str,
) -> None:
    """Draw the panels of the chosen frames into a new folder.

    Args:
        folder: to be made.
        frames: what `chosen` returned.
        load_panel: brings a frame by its key.
        name: of the model.
        protocol: what was measured on, and how.
    """
    folder.mkdir()
    for one in frames:
        title = f"{one.key}    mIoU {format_percent(one.miou)} %"
        subtitle = f"{name}, {one.reason}    {protocol}"
        draw_panel(load_panel(one.key), title, subtitle, folder / one.file)


def _rank_frames(miou: pd.Series, kind: str, group: str) -> list[SelectedFrame]:
    return [
        SelectedFrame(
            f"{kind}_{rank:02}_{Path(key).name}.png", key, value, f"number {rank} {group}"
        )
        for rank, (key, value) in enumerate(zip(miou.index, miou.tolist(), strict=True), start=1)
    ]


def draw_panel(panel: FramePanel, title: str, subtitle: str, path: Path) -> None:
    """Draw the four pictures with a legend of the classes in them.

    Args:
        panel: what to draw.
        title: the figure's first line.
        subtitle: its second, smaller.
        path: where the PNG is written.
    """
    rows, columns = panel.truth.shape
    height = _FIGURE_WIDTH * rows / columns + 1.75  # titles above, the legend below
    figure = create_figure(_FIGURE_WIDTH, height)
    figure.suptitle(f"{title}\n{subtitle}", x=0.003, ha="left", fontsize=13, linespacing=1.5)
    pictures = {
        "photograph": panel.photograph,
        "truth (black: not scored)": palette()[panel.truth],
        "prediction": palette()[panel.predicted],
        f"errors (red): {100 * compute_error_share(panel):.1f} % of the labelled pixels": draw_error_map(
            panel
        ),
    }
    for axes, (name, picture) in zip(figure.subplots(2, 2).flat, pictures.items(), strict=True):
        axes.imshow(picture, interpolation="antialiased" if name == "photograph" else "nearest")
        axes.set_title(name, loc="left", fontsize=11)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_color(LIGHT_GRAY)
    seen = np.union1d(panel.truth[panel.truth != IGNORE], panel.predicted).tolist()
    swatches = [make_legend_patch(class_colors([k])[0], CLASS_NAMES[k]) for k in seen]
    figure.legend(
        handles=swatches,
        loc="outside lower left",
        ncols=11,
        frameon=False,
        fontsize=10.5,
        handlelength=1.3,
        columnspacing=1.4,
    )
    save_figure(figure, path)


def draw_error_map(panel: FramePanel) -> NDArray[np.uint8]:
    """(h, w, 3) uint8 RGB: red where wrong, dark where nothing is scored, pale elsewhere."""
    grey = panel.photograph.mean(axis=2, keepdims=True)
    picture = np.repeat(140 + grey * 0.45, 3, axis=2).astype(np.uint8)
    picture[panel.truth != panel.predicted] = _ERROR_COLOR
    picture[panel.truth == IGNORE] = _VOID_COLOR
    return picture


def compute_error_share(panel: FramePanel) -> float:
    """Return how many of the labelled pixels are wrong, 0..1; nan if none is labelled."""
    labelled = panel.truth != IGNORE
    if not labelled.any():
        return float("nan")
    return float((panel.truth != panel.predicted)[labelled].mean())
