"""The Python snippets of a page of the documentation, run from top to bottom in one session.

`python -m tests.project.page_snippets PAGE` runs those of a page in the current folder.
"""

import re
import sys
from pathlib import Path
from typing import Any


def find_snippets(page: str) -> list[tuple[int, str]]:
    """Every Python block of a page with the number of lines before its first."""
    blocks = re.finditer(r"^```python\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE)
    return [(page.count("\n", 0, block.start(1)), block[1]) for block in blocks]


def run_snippets(page: str, name: str, names: dict[str, Any] | None = None) -> dict[str, Any]:
    """Run all snippets in one namespace, which is returned; errors name the line of the page."""
    namespace = {} if names is None else names
    for line, code in find_snippets(page):
        exec(compile("\n" * line + code, name, "exec"), namespace)
    return namespace


if __name__ == "__main__":
    run_snippets(Path(sys.argv[1]).read_text(encoding="utf-8"), sys.argv[1])
