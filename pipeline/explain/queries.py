"""Queries: the pixel, class or mean whose attention is drawn."""

import re
from dataclasses import dataclass

from pipeline.params.section import suggest_name

SYNTAX = "pixel:ROW,COLUMN, class:NAME or mean"


@dataclass(frozen=True)
class PixelQuery:
    """A pixel of the photograph, counted from 0 at the top left."""

    row: int
    column: int

    def describe(self) -> str:
        """The pixel in words."""
        return f"the pixel in row {self.row}, column {self.column}"

    def locate(
        self, photograph_size: tuple[int, int], input_size: tuple[int, int]
    ) -> tuple[int, int]:
        """Row and column of the pixel of the network's input that lies over this one.

        Raises:
            ValueError: if the photograph has no such pixel.
        """
        height, width = photograph_size
        if not (self.row < height and self.column < width):
            raise ValueError(
                f"there is no pixel {self.row},{self.column} in {height} rows and {width}"
                f" columns: choose a row from 0 to {height - 1} and a column from 0 to {width - 1}"
            )
        rows, columns = input_size
        down, right = self.center(photograph_size)
        return int(down * rows), int(right * columns)

    def center(self, photograph_size: tuple[int, int]) -> tuple[float, float]:
        """Distances of its middle from the top and the left, in heights and widths."""
        height, width = photograph_size
        return (self.row + 0.5) / height, (self.column + 0.5) / width


@dataclass(frozen=True)
class ClassQuery:
    """All pixels that the network predicts as a class."""

    name: str

    def describe(self) -> str:
        """The class in words."""
        return f"the pixels of class {self.name}"

    def find_class(self, names: list[str]) -> int:
        """The train id of the class among a model's classes.

        Raises:
            ValueError: if it is none of them.
        """
        lowered = [name.lower() for name in names]
        if self.name.lower() not in lowered:
            raise ValueError(
                f"--query class:{self.name}: {self.name!r} is not a class of the model"
                f"{suggest_name(self.name, names)}; choose from {', '.join(names)}"
            )
        return lowered.index(self.name.lower())


@dataclass(frozen=True)
class MeanQuery:
    """The mean over all queries."""

    def describe(self) -> str:
        """All queries in words."""
        return "all places"


Query = PixelQuery | ClassQuery | MeanQuery


def parse_query(text: str) -> Query:
    """Parse `pixel:ROW,COLUMN`, `class:NAME` or `mean`.

    Raises:
        ValueError: for anything else.
    """
    text = text.strip()
    if text == "mean":
        return MeanQuery()
    if pixel := re.fullmatch(r"pixel:\s*(\d+)\s*,\s*(\d+)", text):
        return PixelQuery(int(pixel[1]), int(pixel[2]))
    if name := re.fullmatch(r"class:\s*(\S.*)", text):
        return ClassQuery(name[1])
    raise ValueError(f"--query {text!r} is not a query: give {SYNTAX}, for example class:car")
