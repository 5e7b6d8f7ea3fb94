"""What the doctor finds out about what lies elsewhere: servers, the hub, the account."""

import os
from collections.abc import Iterator
from pathlib import Path

import requests

from pipeline.doctor.finding import Finding
from pipeline.download import credentials
from pipeline.tracking import store
from pipeline.tracking.journal import list_pending_runs

_TIMEOUT = 3.0  # seconds, for a server to answer
_SERVER_ERROR = 500  # from this HTTP status on it is the server that fails


def check_service(name: str, variable: str, default: str) -> Finding:
    """Ask the server whose address an environment variable holds.

    Args:
        name: of the service.
        variable: of the environment.
        default: what happens where the variable is not set.
    """
    address = os.environ.get(variable)
    if not address:
        return Finding("services", True, f"{name}: {variable} is not set, {default}")
    shown = store.redact_secrets(address)
    if not address.startswith("http"):
        return Finding("services", True, f"{name}: {shown}")
    trouble = _probe(address)
    if trouble:
        remedy = f"start it, or unset {variable}"
        return Finding("services", False, f"{name}: {shown} {trouble}: {remedy}")
    return Finding("services", True, f"{name}: {shown} answers")


def check_pending_runs(folder: Path) -> Finding:
    """Tell how many runs MLflow lacks something of.

    Args:
        folder: of their journals.
    """
    if num_waiting := len(list_pending_runs(folder)):
        runs = "a run" if num_waiting == 1 else f"{num_waiting} runs"
        sentence = f"MLflow lacks something of {runs}: `python -m pipeline sync` sends it"
        return Finding("runs", False, sentence)
    return Finding("runs", True, "nothing waits to be sent to MLflow")


def check_account(*, is_needed: bool) -> Finding:
    """Tell whether there is an account for the Cityscapes site; never what it is.

    Args:
        is_needed: whether the parameters ask for a download that has not been made.
    """
    try:
        origin = credentials.find_account_origin()
    except ValueError as mistake:
        return Finding("credentials", False, str(mistake).removeprefix("download: "))
    if origin:
        return Finding("credentials", True, f"the Cityscapes account is in {origin}")
    if not is_needed:
        return Finding("credentials", True, "no Cityscapes account, and none is needed now")
    return Finding(
        "credentials",
        False,
        f"no Cityscapes account: set {credentials.USERNAME} and {credentials.PASSWORD}, or run"
        " `dvc repro download` on a terminal to be asked",
    )


def check_hub(repository: str, revision: str, filename: str) -> Iterator[Finding]:
    """Look whether a file of the Hugging Face hub is here, or can be fetched."""
    name = f"{filename} of {repository}"
    place = f"models--{repository.replace('/', '--')}/snapshots/{revision}/{filename}"
    if (_hub_cache() / place).exists():
        yield Finding("hub", True, f"{name} is in the cache")
        return
    remedy = "docs/pretrained.md tells how to bring it by hand"
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        sentence = f"{name} is not in the cache, and HF_HUB_OFFLINE is set: unset it; {remedy}"
        yield Finding("hub", False, sentence)
        return
    address = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    trouble = _probe(f"{address}/{repository}/resolve/{revision}/{filename}")
    shown = store.redact_secrets(address)
    if trouble:
        yield Finding("hub", False, f"{name} is not in the cache, and {shown} {trouble}: {remedy}")
    else:
        yield Finding("hub", True, f"{name} is not here yet; {shown} answers")


def check_site(address: str) -> Finding:
    """Ask the site that the data is to come from."""
    trouble = _probe(address)
    shown = store.redact_secrets(address)
    if trouble:
        remedy = "try later, or bring the zips by hand and name their folder (download.folder)"
        return Finding("site", False, f"{shown} {trouble}: {remedy}")
    return Finding("site", True, f"{shown} answers")


def _hub_cache() -> Path:
    """Where huggingface_hub keeps files, by its documented rules; it takes long to import."""
    if cache := os.environ.get("HF_HUB_CACHE"):
        return Path(cache).expanduser()
    home = os.environ.get("HF_HOME") or Path(
        os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface"
    )
    return Path(home, "hub").expanduser()


def _probe(address: str) -> str | None:
    """What is wrong with a server: `does not answer`, `answers with 502`; None if nothing is."""
    try:
        answer = requests.head(address, timeout=_TIMEOUT, allow_redirects=False)
    except requests.RequestException:
        return "does not answer"
    return f"answers with {answer.status_code}" if answer.status_code >= _SERVER_ERROR else None
