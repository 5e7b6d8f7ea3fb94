"""The section `gradients` of params.yaml."""

from pydantic import PositiveInt

from pipeline.params.section import Section


class Gradients(Section):
    """On what the gradients are measured."""

    frames: PositiveInt
    """Training frames of a batch; there are two batches, to see whether their gradients agree."""
    seeds: PositiveInt
    """How many of the ablation's seeds are looked at."""
