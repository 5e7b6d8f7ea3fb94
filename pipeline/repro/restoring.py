"""Has DVC bring back, in another folder, what its cache holds."""

import json
import os
import subprocess
from pathlib import Path

from pipeline.repro.asking import DVC_COMMAND, cache_folder, default_environment


def restore_into(folder: Path) -> list[str]:
    """Give a copy of the project this one's cache, and bring back all that is in there.

    Args:
        folder: the copy, with its own dvc.lock.

    Returns:
        The outputs that are not in the cache.
    """
    cache = cache_folder().resolve()
    _run_dvc_in(folder, "cache", "dir", "--local", str(cache))
    _run_dvc_in(folder, "checkout", "--allow-missing", "--quiet", "--force")
    asked = json.loads(_run_dvc_in(folder, "data", "status", "--json") or "{}")
    return sorted(asked.get("not_in_cache", []))


def _run_dvc_in(folder: Path, *arguments: str) -> str:
    environment = default_environment() | dict(os.environ)
    done = subprocess.run(
        [*DVC_COMMAND, *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise ValueError(f"dvc {arguments[0]}: {done.stderr.strip().removeprefix('ERROR: ')}")
    return done.stdout
