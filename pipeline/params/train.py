"""The section `train` of params.yaml."""

from typing import Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from pipeline.params.network_size import NetworkSize
from pipeline.params.section import Section


class Augmentation(Section):
    """How a training crop is made from a packed frame."""

    crop: NetworkSize
    scale: tuple[PositiveFloat, PositiveFloat]
    """The smallest and largest factor of the packed size."""
    max_class_share: float = Field(gt=0, le=1)
    flip: bool
    photometric: bool

    @model_validator(mode="after")
    def _check_scale(self) -> Self:
        if self.scale[0] > self.scale[1]:
            raise ValueError(f"scale must begin with the smaller factor (it is {list(self.scale)})")
        return self


class Train(Section):
    """One training; its loss and seed come from the ablation's matrix."""

    variant: Literal["b0", "b1", "b2", "b3", "b4", "b5"]
    decoder_width: PositiveInt | None
    drop_path: float = Field(ge=0, lt=1)
    dropout: float = Field(ge=0, lt=1)
    steps: PositiveInt
    batch_size: PositiveInt
    """Frames per update, over all processes."""
    accumulation: PositiveInt
    optimizer: Literal["adamw", "adam"]
    learning_rate: PositiveFloat
    decoder_lr_factor: PositiveFloat
    weight_decay: NonNegativeFloat
    schedule: Literal["poly", "one_cycle"]
    warmup_steps: NonNegativeInt
    power: PositiveFloat
    clip_norm: PositiveFloat | None
    ema_decay: float | None = Field(gt=0, lt=1)
    sampling: Literal["uniform", "rare_class"]
    class_weights: Literal[
        "erfnet", "enet", "inverse", "sqrt_inverse", "median", "effective_number"
    ]
    """For the loss weighted_ce: the family of weights from `frequency`."""
    augment: Augmentation
    precision: Literal["auto", "float32", "bfloat16"]
    compile: Literal["auto"] | bool
    activation_checkpointing: bool
    deterministic: bool
    residency: Literal["auto", "device", "host"]
    report_every: PositiveInt
    validate_every: PositiveInt
    save_every: PositiveInt

    @model_validator(mode="after")
    def _check_warmup(self) -> Self:
        if self.schedule == "poly" and self.warmup_steps >= self.steps:
            raise ValueError(f"warmup_steps must be less than steps, {self.steps}")
        return self

    @model_validator(mode="after")
    def _check_accumulation(self) -> Self:
        if self.batch_size % self.accumulation:
            raise ValueError(f"accumulation must divide batch_size, {self.batch_size}")
        return self
