"""pipeline.__main__: the command line without the pipeline's packages."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_missing_package_names_the_extra_to_install() -> None:
    """In an installation of the library alone, the command names the extra, in one line."""
    code = (
        "import sys; sys.modules['typer'] = None\n"  # makes its import fail
        "from pipeline.__main__ import main; main()"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert 1 == process.returncode
    assert "typer is not installed" in process.stderr
    assert "pip install 'segformer-cityscapes[pipeline]'" in process.stderr
    assert 1 == process.stderr.count("\n")
