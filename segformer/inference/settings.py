"""Inference settings: what decides, besides the weights, which classes a photograph gets."""

from collections.abc import Iterable
from dataclasses import dataclass

from segformer.model.variants import MIN_SIDE

Size = tuple[int, int]
"""Rows and columns, in pixels."""


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
        if self.windows and not all(
            self._fits(shown) for one in seen for shown in self.input_sizes(one)
        ):
            mode = "slide" + "+".join(map(_format_size, self.windows))
        scales = "ms" + ",".join(map(repr, self.scales)) if self.scales != (1.0,) else "ss"
        return f"{'+'.join(map(_format_size, seen))}/{mode}/{scales}{'+flip' if self.flip else ''}"

    def _fits(self, size: Size) -> bool:
        window = self.windows[0] if self.windows else size
        return all(side <= most for side, most in zip(size, window, strict=True))


def _format_size(size: Size) -> str:
    return f"{size[0]}x{size[1]}"
