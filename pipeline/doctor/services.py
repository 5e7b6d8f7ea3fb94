"""Checks what lies outside this machine: servers, the hub, the Cityscapes account."""

import os
from collections.abc import Iterator
from pathlib import Path

import requests

from pipeline.doctor.finding import Finding
from pipeline.download import credentials
from pipeline.tracking import store
from pipeline.tracking.journal import list_pending_runs

_TIMEOUT = 3.0  # seconds, for a server to answer
_SERVER_ERROR = 500  # lowest HTTP status of a server error


def check_service(name: str, variable: str, default: str) -> Finding:
    """Probe the server whose address is in an environment variable.

    Args:
        name: name of the service.
        variable: name of the environment variable.
        default: what happens if the variable is not set.
    """
    address = os.environ.get(variable)
    if not address:
        return Finding("services", True, f"{name}: {variable} is not set, {default}")
    redacted = store.redact_secrets(address)
    if not address.startswith("http"):
        return Finding("services", True, f"{name}: {redacted}")
    if problem := _probe(address):
        remedy = f"start it, or unset {variable}"
        return Finding("services", False, f"{name}: {redacted} {problem}: {remedy}")
    return Finding("services", True, f"{name}: {redacted} responds")


def check_pending_runs(folder: Path) -> Finding:
    """Count the runs that are not completely uploaded to MLflow.

    Args:
        folder: folder of the runs' journals.
    """
    if num_pending := len(list_pending_runs(folder)):
        runs = "1 run is" if num_pending == 1 else f"{num_pending} runs are"
        message = f"{runs} not completely uploaded to MLflow: run `segformer sync`"
        return Finding("runs", False, message)
    return Finding("runs", True, "all runs are uploaded to MLflow")


def check_account(*, is_needed: bool) -> Finding:
    """Check whether a Cityscapes account is configured, without showing it.

    Args:
        is_needed: whether the parameters need a download that is not here yet.
    """
    try:
        origin = credentials.find_account_origin()
    except ValueError as error:
        return Finding("credentials", False, str(error).removeprefix("download: "))
    if origin:
        return Finding("credentials", True, f"the Cityscapes account is in {origin}")
    if not is_needed:
        return Finding("credentials", True, "no Cityscapes account; none is needed now")
    return Finding(
        "credentials",
        False,
        f"no Cityscapes account: set {credentials.USERNAME} and {credentials.PASSWORD}, or run"
        " `dvc repro download` in a terminal and enter it",
    )


def check_hub(repository: str, revision: str, filename: str) -> Iterator[Finding]:
    """Check whether a file of the Hugging Face hub is in the cache or can be downloaded."""
    name = f"{filename} of {repository}"
    path = f"models--{repository.replace('/', '--')}/snapshots/{revision}/{filename}"
    if (_hub_cache() / path).exists():
        yield Finding("hub", True, f"{name} is in the cache")
        return
    remedy = "see docs/pretrained.md for a manual download"
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        message = f"{name} is not in the cache, and HF_HUB_OFFLINE is set: unset it, or {remedy}"
        yield Finding("hub", False, message)
        return
    address = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    problem = _probe(f"{address}/{repository}/resolve/{revision}/{filename}")
    host = store.redact_secrets(address)
    if problem:
        yield Finding("hub", False, f"{name} is not in the cache, and {host} {problem}: {remedy}")
    else:
        yield Finding("hub", True, f"{name} is not downloaded yet; {host} responds")


def check_site(address: str) -> Finding:
    """Probe the site that the data will be downloaded from."""
    host = store.redact_secrets(address)
    if problem := _probe(address):
        remedy = "try again later, or copy the zips into a folder and set download.folder to it"
        return Finding("site", False, f"{host} {problem}: {remedy}")
    return Finding("site", True, f"{host} responds")


def _hub_cache() -> Path:
    """Return huggingface_hub's cache folder by its documented rules; importing it is slow."""
    if cache := os.environ.get("HF_HUB_CACHE"):
        return Path(cache).expanduser()
    home = os.environ.get("HF_HOME") or Path(
        os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface"
    )
    return Path(home, "hub").expanduser()


def _probe(address: str) -> str | None:
    """Return a server's problem, `does not respond` or `responds with status 502`, or None."""
    try:
        response = requests.head(address, timeout=_TIMEOUT, allow_redirects=False)
    except requests.RequestException:
        return "does not respond"
    status = response.status_code
    return f"responds with status {status}" if status >= _SERVER_ERROR else None
