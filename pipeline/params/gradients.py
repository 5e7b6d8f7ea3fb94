"""The section `gradients` of params.yaml."""

from pydantic import PositiveInt

from pipeline.params.section import Section


class Gradients(Section):
    """The frames and arms whose gradients are measured."""

    frames: PositiveInt
    """Training frames per batch; two batches, to measure whether their gradients agree."""
    seeds: PositiveInt
    """Number of the ablation's seeds to measure."""
