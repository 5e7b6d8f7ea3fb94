"""How photographs are shown to the network when it is scored, and the protocol id that says so."""

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from segformer.encoder import MIN_SIDE
from segformer.looking import Size


@dataclass(frozen=True)
class InferenceSettings:
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

    def input_sizes(self, image_size: Size) -> list[Size]:
        """In which sizes a photograph of `image_size` size is shown."""
        rows, columns = self.size or image_size
        return [(round(rows * scale), round(columns * scale)) for scale in self.scales]

    def check_sizes(self, image_sizes: Iterable[Size]) -> None:
        """See to it that the network can see photographs of these sizes at every scale.

        Raises:
            ValueError: naming the size and the scale at which it cannot.
        """
        for size in [self.size] if self.size else sorted(set(image_sizes)):
            for scale, shown in zip(self.scales, self.input_sizes(size), strict=True):
                if min(shown) < MIN_SIDE:
                    raise ValueError(
                        f"scales: {scale!r} of {_format_size(size)} is {_format_size(shown)}, but the network needs"
                        f" {MIN_SIDE} rows and columns: choose a larger scale or size"
                    )

    def describe(self, image_sizes: Iterable[Size]) -> str:
        """`1024x2048/slide1024x1024+768x768/ms0.5,1.0+flip`; `image_sizes`: the photographs' sizes.

        Where one window holds all that is seen, the mode is `whole`: it is the same.
        """
        seen = [self.size] if self.size else sorted(set(image_sizes))
        mode = "whole"
        if self.windows and not all(self._fits(shown) for one in seen for shown in self.input_sizes(one)):
            mode = "slide" + "+".join(map(_format_size, self.windows))
        scales = "ms" + ",".join(map(repr, self.scales)) if self.scales != (1.0,) else "ss"
        return f"{'+'.join(map(_format_size, seen))}/{mode}/{scales}{'+flip' if self.flip else ''}"

    def _fits(self, size: Size) -> bool:
        window = self.windows[0] if self.windows else size
        return all(side <= most for side, most in zip(size, window, strict=True))


def read_image_sizes(frames: pd.DataFrame) -> list[Size]:
    """Rows and columns of every photograph, of a table with columns rows, columns."""
    return list(zip(frames["rows"].tolist(), frames["columns"].tolist(), strict=True))


def format_protocol(frames: pd.DataFrame, split_rule: str, settings: InferenceSettings, weights: str) -> str:
    """What was measured on and how: `val500/official/1024x2048/whole/ss/last`.

    Split and number of frames, how the frames were divided, what the network sees, whole or by
    windows, at which scales and whether mirrored too, and which weights were taken.
    Numbers are compared only where all of it is the same.

    Args:
        frames: those scored, all of one split, with columns split, rows, columns.
        split_rule: `pipeline.splits.rule_name`.
        settings: how they are shown.
        weights: `last`, those of the last step; `ema`, their moving average.
    """
    split = frames["split"].iloc[0]
    return f"{split}{len(frames)}/{split_rule}/{settings.describe(read_image_sizes(frames))}/{weights}"


def _format_size(size: Size) -> str:
    return f"{size[0]}x{size[1]}"
