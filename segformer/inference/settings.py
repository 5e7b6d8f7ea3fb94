"""Inference settings: input size, windows, flip, scales and resize filter."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self, get_args

from segformer.model.variants import MIN_SIDE

Size = tuple[int, int]
"""Rows and columns, in pixels."""

ResizeFilter = Literal["antialias", "bilinear"]
"""How images are brought to the input size; they differ where images shrink.

`antialias` is bilinear over all pixels that an output pixel covers, as Pillow does; `bilinear`
interpolates between four pixels and skips the rest, as OpenCV and mmcv do.
"""


@dataclass(frozen=True)
class InferenceSettings:
    """How a network predicts an image.

    Attributes:
        size: rows and columns of the network's input; None for the image's own.
        windows: rows and columns of a sliding window, and its stride; None for the whole image at
            once.
        flip: whether each image is predicted mirrored too, and the two are averaged.
        scales: factors of `size` at which it is predicted; the results are averaged.
        resize: the filter that brings images to the input size.
    """

    size: Size | None = None
    windows: tuple[Size, Size] | None = None
    flip: bool = False
    scales: tuple[float, ...] = (1.0,)
    resize: ResizeFilter = "antialias"

    def input_sizes(self, image_size: Size) -> list[Size]:
        """The input size at each scale, for an image of `image_size`."""
        rows, columns = self.size or image_size
        return [(round(rows * scale), round(columns * scale)) for scale in self.scales]

    def check_sizes(self, image_sizes: Iterable[Size]) -> None:
        """Check that the network takes images of these sizes at every scale.

        Raises:
            ValueError: naming the size and the scale that are too small.
        """
        for size in self._base_sizes(image_sizes):
            for scale, input_size in zip(self.scales, self.input_sizes(size), strict=True):
                if min(input_size) < MIN_SIDE:
                    raise ValueError(
                        f"scales: {scale!r} of {_format_size(size)} is {_format_size(input_size)},"
                        f" but the network needs {MIN_SIDE} rows and columns: choose a larger"
                        " scale or size"
                    )

    def describe(self, image_sizes: Iterable[Size]) -> str:
        """The part of a protocol id: `1024x2048/slide1024x1024+768x768/ms0.5,1.0+flip`.

        The mode is `whole` where one window covers the whole input, because the results are equal.
        The filter is named if it is not `antialias`.

        Args:
            image_sizes: rows and columns of the images.
        """
        sizes = self._base_sizes(image_sizes)
        mode = "whole"
        if self.windows and not all(
            self._fits_window(input_size) for size in sizes for input_size in self.input_sizes(size)
        ):
            mode = "slide" + "+".join(map(_format_size, self.windows))
        size = "+".join(map(_format_size, sizes))
        if self.resize != "antialias":
            size += f"-{self.resize}"
        scales = "ms" + ",".join(map(repr, self.scales)) if self.scales != (1.0,) else "ss"
        return f"{size}/{mode}/{scales}{'+flip' if self.flip else ''}"

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON values."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_dict` returned, also after JSON has made lists of its tuples.

        Raises:
            ValueError: naming the key that is unknown or whose value is impossible.
        """
        names = [field.name for field in fields(cls)]
        unknown = sorted(set(values) - set(names))
        if unknown:
            raise ValueError(
                f"unknown inference settings {', '.join(unknown)}; known: {', '.join(names)}"
            )
        given: dict[str, Any] = dict(values)
        if given.get("size") is not None:
            given["size"] = _parse_size("size", given["size"])
        if given.get("windows") is not None:
            try:
                window, stride = given["windows"]
            except (TypeError, ValueError):
                raise ValueError(
                    f"windows: {given['windows']!r} is not a window and its stride"
                ) from None
            given["windows"] = (_parse_size("window", window), _parse_size("stride", stride))
        if "flip" in given and not isinstance(given["flip"], bool):
            raise ValueError(f"flip: {given['flip']!r} is neither true nor false")
        if "scales" in given:
            given["scales"] = _parse_scales(given["scales"])
        if given.get("resize", "antialias") not in get_args(ResizeFilter):
            raise ValueError(
                f"resize: {given['resize']!r} is not one of {', '.join(get_args(ResizeFilter))}"
            )
        return cls(**given)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The settings that a model keeps.

        Args:
            config: config.json of a model folder, or the configuration of a logged MLflow model:
                `inference`, as `to_dict` returned it. Models saved before there was such an entry
                keep a size alone, `input_size` (logged) or `size` (in training).

        Raises:
            ValueError: as `from_dict` does.
        """
        if config.get("inference") is not None:
            return cls.from_dict(config["inference"])
        return cls.from_dict({"size": config.get("input_size") or config.get("size")})

    def _base_sizes(self, image_sizes: Iterable[Size]) -> list[Size]:
        return [self.size] if self.size else sorted(set(image_sizes))

    def _fits_window(self, size: Size) -> bool:
        window = self.windows[0] if self.windows else size
        return all(side <= limit for side, limit in zip(size, window, strict=True))


def _parse_size(name: str, value: Any) -> Size:
    is_pair = isinstance(value, (list, tuple)) and len(value) == 2
    if not is_pair or not all(isinstance(side, int) and side > 0 for side in value):
        raise ValueError(f"{name}: {value!r} is not a number of rows and of columns")
    return value[0], value[1]


def _parse_scales(value: Any) -> tuple[float, ...]:
    if (
        not isinstance(value, (list, tuple))
        or not value
        or not all(isinstance(scale, (int, float)) and scale > 0 for scale in value)
    ):
        raise ValueError(f"scales: {value!r} is not a list of positive factors")
    return tuple(float(scale) for scale in value)


def _format_size(size: Size) -> str:
    return f"{size[0]}x{size[1]}"
