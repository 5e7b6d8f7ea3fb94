"""Downloads one file of one revision from the Hugging Face hub."""

import os
from pathlib import Path

from pipeline.params.pretrained import PINS, Pin

LICENSE = (
    "NVIDIA Source Code License for SegFormer: non-commercial, for research or evaluation only"
    " (https://github.com/NVlabs/SegFormer/blob/master/LICENSE)"
)
"""The license of NVIDIA's encoders; models trained from them fall under it too."""


def find_license(sha256: str | None, repository: str | None) -> str | None:
    """The license of a file, by its SHA-256 or its repository; None if it is not known."""
    is_pinned = sha256 in {pin.sha256 for pin in PINS.values()}
    is_from_nvidia = (repository or "").startswith(("nvidia/mit-", "nvidia/segformer-"))
    return LICENSE if is_pinned or is_from_nvidia else None


def fetch_file(pin: Pin, *, caller: str, manual_step: str) -> Path:
    """Return the file in the hub's cache (HF_HOME), downloaded if missing; its sum is not checked.

    Args:
        pin: the file.
        caller: what needs the file: the start of the message of an error.
        manual_step: what to do with a file that was downloaded by hand: the end of the message.

    Raises:
        ValueError: if the file cannot be downloaded; with the cause and a manual alternative.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # read when the library is imported
    from huggingface_hub import errors, hf_hub_download

    # The base of all errors of the hub's HTTP client, whichever it uses.
    http_error = errors.HTTPError  # type: ignore[attr-defined]
    try:
        # No token: a public file needs none, and an expired one would be refused.
        path = hf_hub_download(pin.repository, pin.filename, revision=pin.revision, token=False)
    except (OSError, ValueError, RuntimeError, http_error, errors.XetDownloadError) as error:
        raise ValueError(
            f"{caller}: {pin.repository} cannot be downloaded ({_describe_cause(error)}); to get"
            f" the file manually, download {pin.url} on any machine, copy it to this one, and"
            f" {manual_step}"
        ) from None
    return Path(path)


def _describe_cause(error: BaseException) -> str:
    """The cause of an error, in one short line."""
    from huggingface_hub import errors

    messages = {
        errors.OfflineModeIsEnabled: "HF_HUB_OFFLINE is set, and the file is not in the cache",
        errors.GatedRepoError: "its owner must grant access",
        errors.RepositoryNotFoundError: "there is no such public repository",
        errors.RevisionNotFoundError: "the repository has no such revision",
        errors.RemoteEntryNotFoundError: "the revision has no such file",
    }
    # Some errors have no message of their own, but a cause that has one.
    cause = error.__cause__ or error
    for kind, text in messages.items():
        if isinstance(error, kind) or isinstance(cause, kind):
            return text
    return (str(cause).strip() or type(cause).__name__).splitlines()[0]
