"""The section `download` of params.yaml."""

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from pipeline.params.section import Section

DEFAULT_URL = "https://www.cityscapes-dataset.com"
"""The official site."""

DrawableSide = Annotated[int, Field(ge=32)]
"""Pixels; a smaller image shows no street."""


class Synthetic(Section):
    """The frames to draw for the source `synthetic`."""

    train: PositiveInt
    """Training frames."""
    val: PositiveInt
    """Validation frames."""
    size: tuple[DrawableSide, DrawableSide]
    seed: NonNegativeInt
    drive: NonNegativeInt = 0
    """Frames of a drive along one street, in the layout of the demo video; 0 for none."""


class Download(Section):
    """Where the raw data comes from."""

    source: Literal["synthetic", "cityscapes", "folder"]
    folder: str | None
    """For `folder`: an extracted Cityscapes tree, or a folder with the official zips."""
    site: str = DEFAULT_URL
    """For `cityscapes`: the address of the site."""
    train_extra: bool = False
    """Whether to download the photographs of `train_extra` and the coarse labels too."""
    demo_video: bool = False
    """Whether to download the demo video too, photographs of three drives without labels."""
    synthetic: Synthetic

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        if self.source == "folder" and not self.folder:
            raise ValueError("folder must be set when source is folder")
        if self.source == "synthetic" and self.train_extra:
            raise ValueError("train_extra needs the source cityscapes or folder")
        if self.source == "synthetic" and self.demo_video:
            raise ValueError(
                "demo_video needs the source cityscapes or folder; for a drawn drive set"
                " synthetic.drive to a number of frames"
            )
        site = urlsplit(self.site)
        is_local = site.scheme == "http" and site.hostname in {"127.0.0.1", "::1", "localhost"}
        # No password in the address: params.yaml goes to Git and to MLflow.
        if not site.hostname or "@" in site.netloc or not (site.scheme == "https" or is_local):
            raise ValueError(
                f"site must be {DEFAULT_URL} or another https address, without a password"
            )
        return self

    @property
    def progress_unit(self) -> str:
        """The unit of the stage's progress: `frames` or `MB`."""
        return "frames" if self.source == "synthetic" else "MB"
