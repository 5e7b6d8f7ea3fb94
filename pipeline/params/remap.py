"""The section `remap` of params.yaml."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, NonNegativeInt, model_validator

from pipeline.params.section import Section
from segformer.cityscapes import TRAIN_EXTRA

SplitRule = Literal["official", "city", "random"]

HeldOut = float | tuple[str, ...]
"""A share of the training frames, between 0 and 1, or the names of training cities."""


def is_city_name(name: str) -> bool:
    """Whether a name can be a city's, and not a number or another part of a split's id."""
    return name[:1].isalpha() and name != TRAIN_EXTRA and not {"+", "/"} & set(name)


def _parse_held_out(value: Any) -> Any:
    if isinstance(value, float) and 0 < value < 1:
        return value
    cities = value if isinstance(value, list | tuple) else ()
    if cities and all(isinstance(city, str) and is_city_name(city) for city in cities):
        return tuple(sorted(set(cities)))  # equal splits have equal values
    raise ValueError("should be a share between 0 and 1, or a list of training cities")


class Remap(Section):
    """How frames are paired and split."""

    split: SplitRule
    """`official`: train and val of the data set; the others are in pipeline.dataset.splits."""
    held_out: Annotated[HeldOut, BeforeValidator(_parse_held_out)]
    """The official train frames to validate on during training; not used by `official`."""
    seed: NonNegativeInt
    """Selects the cities or frames of the share."""
    train_extra: bool = False
    """Whether to train on the coarsely labeled frames too; `download` must provide them."""

    @model_validator(mode="after")
    def _check_held_out(self) -> Self:
        if self.split == "random" and not isinstance(self.held_out, float):
            raise ValueError(
                "held_out is a list of cities, but split random needs a share of frames"
            )
        return self
