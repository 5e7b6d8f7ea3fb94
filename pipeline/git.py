"""Asks Git; where there is none, no repository, or no answer, the answer is empty."""

import os
import subprocess
from pathlib import Path


def capture_output(*arguments: str, index: Path | None = None) -> bytes:
    """What `git arguments` prints; nothing if it fails.

    Args:
        arguments: of the command.
        index: a file that stands for Git's index, which then stays as it is.
    """
    environment = dict(os.environ) | ({"GIT_INDEX_FILE": str(index)} if index else {})
    try:
        done = subprocess.run(
            ["git", *arguments], capture_output=True, env=environment, check=False
        )
    except FileNotFoundError:
        return b""
    return done.stdout if done.returncode == 0 else b""
