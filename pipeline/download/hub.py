"""One file of one revision from the Hugging Face hub, and the pins of the published encoders."""

import os
from pathlib import Path

from pipeline.params.pretrained import PINS, Pin

LICENSE = (
    "NVIDIA Source Code License for SegFormer: non-commercial, for research or evaluation only"
    " (https://github.com/NVlabs/SegFormer/blob/master/LICENSE)"
)
"""Of the encoders below; whatever is trained from them falls under it too."""


def find_license(sha256: str | None, repository: str | None) -> str | None:
    """The licence of a file, told by its sum or by where it came from; None if it is not known."""
    is_pinned = sha256 in {pin.sha256 for pin in PINS.values()}
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
