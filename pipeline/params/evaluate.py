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
    """What the network sees; null: the frame's own size. Labels are never resized."""
    mode: Literal["whole", "slide"]
    """Whether a frame is seen whole, or by windows whose scores are averaged where they overlap."""
    window: NetworkSize
    """Of mode slide, in pixels of what is seen."""
    stride: tuple[PositiveInt, PositiveInt]
    """From one window to the next."""
    flip: bool
    """Whether a frame is also seen in the mirror."""
    scales: tuple[Annotated[float, Field(gt=0)], ...] = Field(min_length=1)
    """Factors of `size` at which a frame is seen; the softmax is averaged."""
    save_predictions: bool
    """Whether predictions are kept, as the official script and the test server read them."""
    corruptions: tuple[CorruptionName, ...]
    """By which frames are also spoiled, at every severity; each costs five evaluations more."""
    worst: NonNegativeInt
    """So many frames, those with the lowest mIoU, are shown as panels."""
    typical: NonNegativeInt
    """So many more, those nearest to the median."""
    bootstrap: PositiveInt
    """Resamples of frames behind the interval of mIoU."""
    seed: NonNegativeInt

    @property
    def inference_settings(self) -> InferenceSettings:
        """How frames are shown to the network."""
        windows = (self.window, self.stride) if self.mode == "slide" else None
        return InferenceSettings(self.size, windows, flip=self.flip, scales=self.scales)

    @model_validator(mode="after")
    def _check_windows(self) -> Self:
        if any(step > side for step, side in zip(self.stride, self.window, strict=True)):
            raise ValueError(
                f"stride {list(self.stride)} leaves gaps between windows of {list(self.window)}:"
                " choose no more than the window"
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
                raise ValueError(f"{name} names one twice: {list(values)}")
        return self
