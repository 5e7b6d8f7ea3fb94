"""The section `frequency` of params.yaml."""

from pydantic import Field, PositiveFloat

from pipeline.params.section import Section


class Frequency(Section):
    """How pixel counts become loss weights and sampling probabilities."""

    temperature: PositiveFloat
    """Of rare-class sampling: a lower one draws frames with rare classes more often."""
    beta: float = Field(ge=0, lt=1)
    """Of the weights `effective_number`: 0 weighs all classes equally, near 1 rare ones more."""
