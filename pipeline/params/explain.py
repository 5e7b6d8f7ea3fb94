"""The section `explain` of params.yaml."""

from typing import Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from pipeline.params.section import Section, suggest_name
from segformer.cityscapes import CLASS_NAMES

_CLASS_QUERY = "class:"


class Explain(Section):
    """The frames on which the heads of the best arm are measured, and the walls of maps."""

    frames: PositiveInt
    """Number of scored frames to measure, spread evenly; all of them if there are fewer."""
    walls: NonNegativeInt
    """Number of frames with a wall of maps: those with the most pixels of the class of `query`."""
    query: str
    """`class:NAME`: the walls map how strongly each place attends to the pixels of this class."""
    stage: int = Field(ge=0, le=3)
    """Stage of the walls: 0, the finest, to 3."""
    block: int = Field(ge=-1)
    """Block of the walls in this stage, from 0; -1 is the last."""
    bootstrap: PositiveInt
    """Bootstrap resamples of frames for each interval."""
    seed: NonNegativeInt

    @property
    def query_class(self) -> str:
        """The class of `query`."""
        return self.query.removeprefix(_CLASS_QUERY)

    @model_validator(mode="after")
    def _check_query(self) -> Self:
        if not self.query.startswith(_CLASS_QUERY):
            raise ValueError(f"query {self.query!r} names no class: write class:NAME")
        if self.query_class not in CLASS_NAMES:
            raise ValueError(
                f"query {self.query!r}: {self.query_class!r} is not a class"
                f"{suggest_name(self.query_class, list(CLASS_NAMES))}; choose from"
                f" {', '.join(CLASS_NAMES)}"
            )
        return self
