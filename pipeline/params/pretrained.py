"""The section `pretrained` of params.yaml."""

from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import StringConstraints, model_validator

from pipeline.params.section import Section


@dataclass(frozen=True)
class Pin:
    """A file on the hub, fixed by its commit.

    Attributes:
        repository: owner and name.
        revision: 40 hex digits of a commit.
        filename: within the repository.
        sha256: of the file, 64 hex digits; None if it is not known yet.
    """

    repository: str
    revision: str
    filename: str
    sha256: str | None

    @property
    def url(self) -> str:
        """The address of the file in a browser."""
        return f"https://huggingface.co/{self.repository}/resolve/{self.revision}/{self.filename}"


def _pin_encoder(name: str, revision: str, sha256: str) -> Pin:
    return Pin(f"nvidia/{name}", revision, "pytorch_model.bin", sha256)


_PINS = (
    _pin_encoder(
        "mit-b0",
        "80983a413c30d36a39c20203974ae7807835e2b4",
        "4af8348c2a802bf76115d34797ff5ce1d9f110bb8593c22d9b66d8bd7fa227fc",
    ),
    _pin_encoder(
        "mit-b1",
        "13ddceec4e8bdf401e7cd7acf5aebc526222518c",
        "980b86b60db37b1b1528086f6c53d253d879e9e09ebe07397b40fd275738a3bf",
    ),
    _pin_encoder(
        "mit-b2",
        "3bb39e8739149c3777d0325349b2a6c32c6413db",
        "4500b5665471b593e6757e15bcca5034f433fe3902fe8ec2b7230774a57f264f",
    ),
    _pin_encoder(
        "mit-b3",
        "0e0522cf0515903a0d35abc5adc9df78a25fde7c",
        "5670aa22de1b1848b1d715cc97d8fef77761701dedc8b3d3e44525fd71012896",
    ),
    _pin_encoder(
        "mit-b4",
        "3844ddaa13d9ce98816bacb904688a5284f164af",
        "1cddf0f9ed0b7f1639a8f5e339c177673685df3e2e3c9575a649eb15bcf68a55",
    ),
    _pin_encoder(
        "mit-b5",
        "40357155205b036cf11b61f132d53d2f8861f170",
        "a389c0a604458fa205446fd08a2c01b74e6591a5da3e77de668c6ca5cbf75356",
    ),
)

PINS = {pin.repository: pin for pin in _PINS}
"""NVIDIA's published ImageNet encoders, pinned from public sources: docs/pretrained.md."""


class Pretrained(Section):
    """The source of the encoder's starting weights."""

    source: Literal["none", "file", "hub"]
    file: str | None
    """For `file`: a checkpoint in any format that segformer.weights.interop reads."""
    repository: Annotated[str, StringConstraints(pattern=r"^[\w.-]+/[\w.-]+$")] | None
    """For `hub`: owner and name."""
    revision: Annotated[str, StringConstraints(pattern="^[0-9a-f]{40}$")] | None
    """For `hub`: a commit, because a branch may hold other weights tomorrow."""
    filename: str | None
    """For `hub`: the file within the repository."""
    sha256: Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")] | None
    """Of the file; DVC cannot track files outside the project, so it tracks this checksum."""

    @model_validator(mode="after")
    def _check_file(self) -> Self:
        if self.source == "file" and not (self.file and self.sha256):
            raise ValueError("file and sha256 must be set when source is file")
        return self

    @model_validator(mode="after")
    def _check_pin(self) -> Self:
        if self.source != "hub":
            return self
        pin = PINS.get(self.repository or "")
        missing = not (self.repository and self.revision and self.filename)
        # The checksum of an unpinned file may be omitted: the stage then reports it.
        if missing or (pin and self.sha256 is None):
            raise ValueError(
                "repository, revision, filename and sha256 must be set when source is hub"
                + _describe_pin(pin)
            )
        others = {value for other in PINS.values() if other != pin for value in _pin_values(other)}
        if pin and others & {self.revision, self.sha256}:
            raise ValueError(
                "revision or sha256 belongs to another repository" + _describe_pin(pin)
            )
        return self

    def pin(self) -> Pin:
        """The file on the hub that the parameters select."""
        assert self.repository is not None
        assert self.revision is not None
        assert self.filename is not None
        return Pin(self.repository, self.revision, self.filename, self.sha256)


def _pin_values(pin: Pin) -> tuple[str | None, ...]:
    return pin.revision, pin.sha256


def _describe_pin(pin: Pin | None) -> str:
    if pin is None:
        return ""
    return (
        f"; for {pin.repository} write revision: {pin.revision},"
        f" filename: {pin.filename}, sha256: {pin.sha256}"
    )
