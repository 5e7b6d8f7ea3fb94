"""The section `ablation` of params.yaml."""

from typing import Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from pipeline.params.section import Section, suggest_name

LOSS_NAMES = (
    "ce",
    "weighted_ce",
    "ohem_ce",
    "focal",
    "dice",
    "log_dice",
    "jaccard",
    "ce_dice",
    "ce_jaccard",
)
"""The names in segformer.losses.LOSSES, which imports torch; a test keeps the two equal."""


def arm_name(loss: str, seed: int) -> str:
    """Return the name of one training, `ce-0`, as dvc.yaml writes it."""
    return f"{loss}-{seed}"


class Ablation(Section):
    """Which losses are trained and compared, and how."""

    losses: list[str] = Field(min_length=1)
    seeds: list[NonNegativeInt] = Field(min_length=1)
    """Each loss is trained once with each seed."""
    baseline: str
    """The loss that the others are compared with; one of `losses`."""
    bootstrap: PositiveInt
    """Bootstrap resamples of frames for each interval."""
    seed: NonNegativeInt

    @model_validator(mode="after")
    def _check_arms(self) -> Self:
        for loss in self.losses:
            if loss not in LOSS_NAMES:
                raise ValueError(
                    f"{loss} is not a loss{suggest_name(loss, list(LOSS_NAMES))};"
                    f" choose from {', '.join(LOSS_NAMES)}"
                )
        for name, values in (("losses", self.losses), ("seeds", self.seeds)):
            if len(set(values)) < len(values):
                raise ValueError(f"{name} contains a duplicate: {values}")
        if self.baseline not in self.losses:
            raise ValueError(f"baseline {self.baseline} is not one of losses {self.losses}")
        return self

    def arm_names(self) -> list[str]:
        """The names of all trainings: `{loss}-{seed}`."""
        return [arm_name(loss, seed) for loss in self.losses for seed in self.seeds]
