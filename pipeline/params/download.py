"""The section `download` of params.yaml."""

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from pipeline.params.section import Section

DEFAULT_URL = "https://www.cityscapes-dataset.com"
"""The official site."""

DrawableSide = Annotated[int, Field(ge=32)]
"""Pixels; on less there is no street to be seen."""


class Synthetic(Section):
    """What to draw when the source is `synthetic`."""

    train: PositiveInt
    """Training frames."""
    val: PositiveInt
    """Validation frames."""
    size: tuple[DrawableSide, DrawableSide]
    seed: NonNegativeInt


class Download(Section):
    """Where the raw data comes from."""

    source: Literal["synthetic", "cityscapes", "folder"]
    folder: str | None
    """For `folder`: an extracted Cityscapes tree, or a folder that holds the official zips."""
    site: str = DEFAULT_URL
    """For `cityscapes`: where the site is."""
    train_extra: bool = False
    """Whether the photographs of `train_extra` and the coarse labels are brought too."""
    synthetic: Synthetic

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        if self.source == "folder" and not self.folder:
            raise ValueError("source is folder, so folder must name one")
        if self.source == "synthetic" and self.train_extra:
            raise ValueError("train_extra is not drawn: it needs source cityscapes or folder")
        site = urlsplit(self.site)
        is_here = site.scheme == "http" and site.hostname in {"127.0.0.1", "::1", "localhost"}
        # Also: what stands in params.yaml goes to Git and to MLflow.
        if not site.hostname or "@" in site.netloc or not (site.scheme == "https" or is_here):
            raise ValueError(
                f"site must be {DEFAULT_URL} or another https address, without a password"
            )
        return self

    @property
    def progress_unit(self) -> str:
        """What `run` counts for its progress."""
        return "frames" if self.source == "synthetic" else "MB"
