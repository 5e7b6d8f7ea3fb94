"""Draw single frames in four pictures: photograph, ground truth, prediction and error map."""

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
    """A frame and its prediction.

    Attributes:
        key: the key of the frame.
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
    """A frame to draw.

    Attributes:
        file: the name of the panel, `worst_01_munster_000000_000019.png`.
        key: the key of the frame.
        miou: over the classes that occur in it, 0..1.
        reason: why it was selected, `rank 1 by lowest mIoU of 500 frames`.
    """

    file: str
    key: str
    miou: float
    reason: str


def select_frames(per_image: pd.DataFrame, *, worst: int, typical: int) -> list[SelectedFrame]:
    """Select the frames of lowest mIoU, lowest first, and those nearest to the median.

    Args:
        per_image: columns frame and miou; a frame without mIoU is all void and never selected.
        worst: the number of frames of lowest mIoU.
        typical: the number of frames around the median, nearest first, without the worst ones.
    """
    miou = per_image.set_index("frame")["miou"].dropna().sort_values(kind="stable")
    ranked = miou.iloc[:worst]
    rest = miou.iloc[worst:]
    near = (rest - miou.median()).abs().sort_values(kind="stable").index[:typical]
    whole = f"of {format_count(len(miou), 'frame')}"
    return [
        *_rank_frames(ranked, "worst", f"by lowest mIoU {whole}"),
        *_rank_frames(rest[near], "typical", f"by distance to the median mIoU {whole}"),
    ]


def draw_panels(
    folder: Path,
    frames: Sequence[SelectedFrame],
    load_panel: Callable[[str], FramePanel],
    *,
    name: str,
    protocol: str,
) -> None:
    """Draw the panels of the selected frames into a new folder.

    Args:
        folder: the folder to create.
        frames: the result of `select_frames`.
        load_panel: returns the panel of a frame by its key.
        name: the name of the model.
        protocol: the protocol of the scores.
    """
    folder.mkdir()
    for frame in frames:
        title = f"{frame.key}    mIoU {format_percent(frame.miou)} %"
        subtitle = f"{name}, {frame.reason}    {protocol}"
        draw_panel(load_panel(frame.key), title, subtitle, folder / frame.file)


def draw_panel(panel: FramePanel, title: str, subtitle: str, path: Path) -> None:
    """Draw the four pictures of a frame, with a legend of its classes.

    Args:
        panel: the frame to draw.
        title: the first line of the figure's title.
        subtitle: the second line.
        path: the PNG to write.
    """
    rows, columns = panel.truth.shape
    height = _FIGURE_WIDTH * rows / columns + 1.75  # space for titles and legend
    figure = create_figure(_FIGURE_WIDTH, height)
    figure.suptitle(f"{title}\n{subtitle}", x=0.003, ha="left", fontsize=13, linespacing=1.5)
    error_percent = f"{100 * compute_error_share(panel):.1f} %"
    pictures = {
        "photograph": panel.photograph,
        "ground truth (black: not scored)": palette()[panel.truth],
        "prediction": palette()[panel.predicted],
        f"errors (red): {error_percent} of the labeled pixels": draw_error_map(panel),
    }
    for axes, (name, picture) in zip(figure.subplots(2, 2).flat, pictures.items(), strict=True):
        axes.imshow(picture, interpolation="antialiased" if name == "photograph" else "nearest")
        axes.set_title(name, loc="left", fontsize=11)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_color(LIGHT_GRAY)
    train_ids = np.union1d(panel.truth[panel.truth != IGNORE], panel.predicted).tolist()
    patches = [make_legend_patch(class_colors([k])[0], CLASS_NAMES[k]) for k in train_ids]
    figure.legend(
        handles=patches,
        loc="outside lower left",
        ncols=11,
        frameon=False,
        fontsize=10.5,
        handlelength=1.3,
        columnspacing=1.4,
    )
    save_figure(figure, path)


def draw_error_map(panel: FramePanel) -> NDArray[np.uint8]:
    """Draw (h, w, 3) uint8 RGB: red where wrong, dark where not scored, pale elsewhere."""
    gray = panel.photograph.mean(axis=2, keepdims=True)
    picture = np.repeat(140 + gray * 0.45, 3, axis=2).astype(np.uint8)
    picture[panel.truth != panel.predicted] = _ERROR_COLOR
    picture[panel.truth == IGNORE] = _VOID_COLOR
    return picture


def compute_error_share(panel: FramePanel) -> float:
    """Return the share of labeled pixels that are wrong, 0..1; nan if none is labeled."""
    is_labeled = panel.truth != IGNORE
    if not is_labeled.any():
        return float("nan")
    return float((panel.truth != panel.predicted)[is_labeled].mean())


def _rank_frames(miou: pd.Series, kind: str, ranking: str) -> list[SelectedFrame]:
    return [
        SelectedFrame(
            f"{kind}_{rank:02}_{Path(key).name}.png", key, value, f"rank {rank} {ranking}"
        )
        for rank, (key, value) in enumerate(zip(miou.index, miou.tolist(), strict=True), start=1)
    ]
