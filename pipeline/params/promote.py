"""The section `promote` of params.yaml."""

from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveInt

from pipeline.params.section import Section


class Promote(Section):
    """What the gate asks of a challenger that is better on the whole."""

    max_class_loss: Annotated[float, Field(ge=0, le=1)]
    """No class may lose more IoU than this."""
    bootstrap: PositiveInt
    """Resamples of frames behind every interval."""
    seed: NonNegativeInt
