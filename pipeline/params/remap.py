"""The section `remap` of params.yaml."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, NonNegativeInt, model_validator

from pipeline.params.section import Section
from segformer.cityscapes import TRAIN_EXTRA

SplitRule = Literal["official", "city", "random"]


HeldOut = float | tuple[str, ...]
"""A share of the training frames, over 0 and under 1, or the names of training cities."""


def is_city_name(name: str) -> bool:
    """Whether it can be a city's: never a number or another part of a rule's name."""
    return name[:1].isalpha() and name != TRAIN_EXTRA and not {"+", "/"} & set(name)


def _parse_held_out(value: Any) -> Any:
    if isinstance(value, float) and 0 < value < 1:
        return value
    cities = value if isinstance(value, list | tuple) else ()
    if cities and all(isinstance(city, str) and is_city_name(city) for city in cities):
        return tuple(sorted(set(cities)))  # one division, one value
    raise ValueError("should be a share, over 0 and under 1, or a list of training cities")


class Remap(Section):
    """How frames are paired and divided."""

    split: SplitRule
    """`official`: train and val as the data set divides them; else pipeline.dataset.splits says how."""
    held_out: Annotated[HeldOut, BeforeValidator(_parse_held_out)]
    """Of the official train frames, to be watched during training; not used by `official`."""
    seed: NonNegativeInt
    """Which cities or frames make up the share."""
    train_extra: bool = False
    """Whether the coarsely labelled frames are trained on too; `download` has to bring them."""

    @model_validator(mode="after")
    def _check_held_out(self) -> Self:
        if self.split == "random" and not isinstance(self.held_out, float):
            raise ValueError("held_out names cities, but split random takes a share of the frames")
        return self
