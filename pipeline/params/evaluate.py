"""The section `evaluate` of params.yaml."""

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from pipeline.params.network_size import NetworkSize
from pipeline.params.section import Section
from segformer.inference.settings import InferenceSettings

CorruptionName = Literal[
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "speckle_noise",
    "defocus_blur",
    "gaussian_blur",
    "motion_blur",
    "glass_blur",
    "snow",
    "frost",
    "fog",
    "spatter",
    "brightness",
    "contrast",
    "saturate",
    "jpeg",
    "pixelate",
]


class Evaluate(Section):
    """How a model is scored."""

    size: NetworkSize | None
    """Rows and columns of the network's input; null: the frame's own. Labels are never resized."""
    mode: Literal["whole", "slide"]
    """Whole frames, or sliding windows whose scores are averaged where they overlap."""
    window: NetworkSize
    """For slide: rows and columns in pixels of the network's input."""
    stride: tuple[PositiveInt, PositiveInt]
    """For slide: rows and columns from one window to the next, in pixels."""
    flip: bool
    """Whether to average with the scores of the mirrored frame."""
    scales: tuple[Annotated[float, Field(gt=0)], ...] = Field(min_length=1)
    """Factors of `size` at which each frame is scored; the softmax is averaged."""
    save_predictions: bool
    """Whether to save predictions in the format of the official script and the test server."""
    corruptions: tuple[CorruptionName, ...]
    """Corruptions to evaluate at every severity; each takes five more evaluations."""
    worst: NonNegativeInt
    """Number of panels with the frames of the lowest mIoU."""
    typical: NonNegativeInt
    """Number of panels with the frames nearest to the median mIoU."""
    bootstrap: PositiveInt
    """Bootstrap resamples of frames for the interval of mIoU."""
    seed: NonNegativeInt

    @property
    def inference_settings(self) -> InferenceSettings:
        """The settings of inference: size, windows, flip and scales."""
        windows = (self.window, self.stride) if self.mode == "slide" else None
        return InferenceSettings(self.size, windows, flip=self.flip, scales=self.scales)

    @model_validator(mode="after")
    def _check_windows(self) -> Self:
        if any(step > side for step, side in zip(self.stride, self.window, strict=True)):
            raise ValueError(
                f"stride {list(self.stride)} leaves gaps between windows of {list(self.window)}:"
                " choose a stride no larger than the window"
            )
        return self

    @model_validator(mode="after")
    def _check_scaled_sizes(self) -> Self:
        self.inference_settings.check_sizes([])
        return self

    @model_validator(mode="after")
    def _check_duplicates(self) -> Self:
        for name in ("scales", "corruptions"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"{name} contains a duplicate: {list(values)}")
        return self
