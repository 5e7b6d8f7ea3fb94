"""Runs Git commands; the output is empty without Git, without a repository, or on failure."""

import os
import subprocess
from pathlib import Path


def capture_output(*arguments: str, index: Path | None = None) -> bytes:
    """Return what `git arguments` prints; nothing if it fails.

    Args:
        arguments: of the command.
        index: a file to use in place of Git's index, which then stays unchanged.
    """
    environment = dict(os.environ) | ({"GIT_INDEX_FILE": str(index)} if index else {})
    try:
        process = subprocess.run(
            ["git", *arguments], capture_output=True, env=environment, check=False
        )
    except FileNotFoundError:
        return b""
    return process.stdout if process.returncode == 0 else b""
