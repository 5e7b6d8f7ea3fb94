"""Every command of ours that a page shows can be given as it stands there."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from pipeline.cli.app import app

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# `…` stands for options that the page has just shown; --check-official answers while it is parsed.
UNFINISHED = ("…", "...", "--check-official", "--help", "NAME", "torchrun")

USAGE_ERROR = typer.BadParameter.__base__  # Typer brings its own Click, and exports no more of it


def commands(page: Path) -> list[str]:
    """The lines in a page's code blocks that begin with `segformer`, put together.

    Also those that begin with `python -m pipeline`, the same program.
    """
    blocks = re.findall(r"```(?:bash|sh)\n(.*?)```", page.read_text(), flags=re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    starts = (line.strip() for line in lines)
    return [line for line in starts if line.startswith(("segformer ", "python -m pipeline "))]


SHOWN = [(page.name, line) for page in PAGES for line in commands(page)]


def test_there_are_commands_to_look_at() -> None:
    """A page that hides its commands from this test would make it worthless."""
    assert {"README.md", "gate.md", "presets.md", "serving.md"} <= {page for page, _ in SHOWN}


@pytest.mark.parametrize(("page", "line"), SHOWN)
def test_a_command_on_a_page_is_understood(page: str, line: str) -> None:
    """Its sub-command and options exist, and none that is required is missing."""
    if any(word in line for word in UNFINISHED):
        return
    words = shlex.split(line, comments=True)
    name, *arguments = words[1:] if words[0] == "segformer" else words[3:]
    every = typer.main.get_command(app).commands
    assert name in every, f"{page}: there is no command {name}"
    try:
        every[name].make_context(name, arguments)
    except USAGE_ERROR as mistake:
        # A bad value is a file that is not here: the page's reader has it.
        if type(mistake) is not typer.BadParameter:
            raise
