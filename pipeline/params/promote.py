"""The section `promote` of params.yaml."""

from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveInt

from pipeline.params.section import Section


class Promote(Section):
    """The conditions of the gate for a challenger with a higher mIoU."""

    max_class_loss: Annotated[float, Field(ge=0, le=1)]
    """The largest loss of IoU allowed for a class, as a fraction."""
    bootstrap: PositiveInt
    """Bootstrap resamples of frames for each interval."""
    seed: NonNegativeInt
