import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_without_the_pipelines_packages_it_says_what_to_install() -> None:
    """Installed for the library alone, the command names the extra, in one line."""
    code = (
        "import sys; sys.modules['typer'] = None\n"  # as if it were not there
        "from pipeline.__main__ import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert 1 == done.returncode
    assert "typer is not installed" in done.stderr
    assert "pip install 'segformer-cityscapes[pipeline]'" in done.stderr
    assert 1 == done.stderr.count("\n")
