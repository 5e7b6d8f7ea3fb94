"""The section `frequency` of params.yaml."""

from pydantic import Field, PositiveFloat

from pipeline.params.section import Section


class Frequency(Section):
    """How counts become loss weights and sampling probabilities."""

    temperature: PositiveFloat
    """Of rare-class sampling: the lower, the more often frames with rare classes are drawn."""
    beta: float = Field(ge=0, lt=1)
    """Of the weights `effective_number`: 0 weighs all alike, towards 1 rare classes more."""
