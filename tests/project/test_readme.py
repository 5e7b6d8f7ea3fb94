"""What the README shows is true."""

import re
from pathlib import Path

import pytest

from segformer.model.segformer import SegFormer
from segformer.weights.checkpoint import save

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text()


def test_the_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's example runs as it stands, where a run has trained ce-0."""
    save(SegFormer("b0"), tmp_path / "data" / "train" / "ce-0")
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    names: dict[str, object] = {}
    exec(code, names)
    assert isinstance(names["model"], SegFormer)


def test_links_and_pictures_are_there() -> None:
    """Every link and picture within the repository leads somewhere."""
    targets = re.findall(r"\]\(([^)#]+)", README)
    inside = [target for target in targets if not target.startswith("http")]
    assert len(inside) > 5
    assert [] == [target for target in inside if not (ROOT / target).exists()]
