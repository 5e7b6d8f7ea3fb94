"""One file of one revision from the Hugging Face hub, and the pins of the published encoders."""

import os
from dataclasses import dataclass
from pathlib import Path

LICENSE = (
    "NVIDIA Source Code License for SegFormer: non-commercial, for research or evaluation only"
    " (https://github.com/NVlabs/SegFormer/blob/master/LICENSE)"
)
"""Of the encoders below; whatever is trained from them falls under it too."""


@dataclass(frozen=True)
class Pin:
    """A file that can never change.

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
        """Where a browser finds it."""
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
"""The ImageNet encoders that NVIDIA published, as public sources name them: docs/pretrained.md."""


def find_license(sha256: str | None, repository: str | None) -> str | None:
    """The licence of a file, told by its sum or by where it came from; None if it is not known."""
    is_pinned = sha256 in {pin.sha256 for pin in _PINS}
    is_nvidias = (repository or "").startswith(("nvidia/mit-", "nvidia/segformer-"))
    return LICENSE if is_pinned or is_nvidias else None


def fetch_file(pin: Pin) -> Path:
    """The file in the hub's own cache (HF_HOME), fetched unless it is there; its sum is not read.

    Raises:
        ValueError: why the file could not be fetched, and how to bring it by hand.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # read when the library is imported
    from huggingface_hub import errors, hf_hub_download

    # The base of all errors of the HTTP client inside, whichever that is.
    http_error = errors.HTTPError  # type: ignore[attr-defined]
    try:
        # No token: a public file needs none, and an expired one would be refused.
        found = hf_hub_download(pin.repository, pin.filename, revision=pin.revision, token=False)
    except (OSError, ValueError, RuntimeError, http_error, errors.XetDownloadError) as mistake:
        raise ValueError(
            f"pretrained: {pin.repository} could not be fetched ({_describe_cause(mistake)}); to bring the"
            f" file by hand, fetch {pin.url} on any machine, copy it to this one, and write into"
            " params.yaml below pretrained: source: file, file: its path,"
            f" sha256: {pin.sha256 or 'its sum'}"
        ) from None
    return Path(found)


def _describe_cause(error: BaseException) -> str:
    """What went wrong, in one line and few words."""
    from huggingface_hub import errors

    words = {
        errors.OfflineModeIsEnabled: "HF_HUB_OFFLINE is set, and the file is not in the cache",
        errors.GatedRepoError: "its owner has to grant access",
        errors.RepositoryNotFoundError: "there is no such public repository",
        errors.RevisionNotFoundError: "the repository has no such revision",
        errors.RemoteEntryNotFoundError: "the revision has no such file",
    }
    # An error that says nothing of its own was raised from the one that does.
    cause = error.__cause__ or error
    for kind, text in words.items():
        if isinstance(error, kind) or isinstance(cause, kind):
            return text
    return (str(cause).strip() or type(cause).__name__).splitlines()[0]
