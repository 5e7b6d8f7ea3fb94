"""How photographs are shown to the network when it is scored, and the protocol id that says so."""

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

Size = tuple[int, int]


@dataclass(frozen=True)
class Showing:
    """What decides what a network makes of a photograph.

    Attributes:
        size: rows and columns of the network's input; None for the photograph's own.
        windows: rows and columns of a window, and how far apart windows are; None: seen whole.
        flip: whether each photograph is also seen in the mirror.
        scales: factors of `size` at which it is seen.
    """

    size: Size | None
    windows: tuple[Size, Size] | None = None
    flip: bool = False
    scales: tuple[float, ...] = (1.0,)

    def sizes(self, own: Size) -> list[Size]:
        """In which sizes a photograph of `own` size is shown."""
        rows, columns = self.size or own
        return [(round(rows * scale), round(columns * scale)) for scale in self.scales]

    def parts(self, own: Iterable[Size]) -> str:
        """`1024x2048/slide1024x1024+768x768/ms0.5,1.0+flip`; `own`: the photographs' sizes."""
        seen = "+".join(_by(size) for size in ([self.size] if self.size else sorted(set(own))))
        mode = "slide" + "+".join(map(_by, self.windows)) if self.windows else "whole"
        scales = "ms" + ",".join(map(repr, self.scales)) if self.scales != (1.0,) else "ss"
        return f"{seen}/{mode}/{scales}{'+flip' if self.flip else ''}"


def protocol_id(frames: pd.DataFrame, split_rule: str, showing: Showing) -> str:
    """What was measured on and how: `val500/official/1024x2048/whole/ss/last`.

    Split and number of frames, how the frames were divided, what the network sees, whole or by
    windows, at which scales and whether mirrored too, and how the weights were chosen: the last.
    Numbers are compared only where all of it is the same.

    Args:
        frames: those scored, all of one split, with columns split, rows, columns.
        split_rule: `pipeline.splits.rule_name`.
        showing: how they are shown.
    """
    own = zip(frames["rows"].tolist(), frames["columns"].tolist(), strict=True)
    split = frames["split"].iloc[0]
    return f"{split}{len(frames)}/{split_rule}/{showing.parts(own)}/last"


def _by(size: Size) -> str:
    return f"{size[0]}x{size[1]}"
