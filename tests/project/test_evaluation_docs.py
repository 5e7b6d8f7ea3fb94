"""What docs/evaluation.md names is there."""

import re
from pathlib import Path

from pipeline.evaluation.corruptions.registry import FAMILY_BY_CORRUPTION
from pipeline.params.evaluate import Evaluate
from segformer.inference.settings import InferenceSettings

PAGE = Path(__file__).parent.parent.parent / "docs" / "evaluation.md"
TEXT = PAGE.read_text(encoding="utf-8")


def test_every_corruption_is_listed_with_its_family() -> None:
    """The table has all of them, and none that is not there."""
    rows = re.findall(r"^\| (noise|blur|weather|digital) \| (.*) \|$", TEXT, flags=re.MULTILINE)
    listed = {name: family for family, names in rows for name in re.findall(r"`(\w+)`", names)}
    assert FAMILY_BY_CORRUPTION == listed


def test_the_protocol_explained_is_one_that_is_written() -> None:
    """The example is what such a way of showing frames is called."""
    showing = InferenceSettings(None, ((1024, 1024), (768, 768)), flip=True, scales=(0.5, 1.0))
    assert f"`val500/official/{showing.describe([(1024, 2048)])}/last`" in TEXT


def test_every_parameter_of_the_section_is_named() -> None:
    """But the number of resamples, which the interval's explanation has in decision 4."""
    missing = {name for name in Evaluate.model_fields if not re.search(rf"\b{name}\b", TEXT)}
    assert set() == missing - {"bootstrap"}


def test_links_lead_somewhere() -> None:
    """Every link of the page is to a file of the repository."""
    targets = re.findall(r"\]\(([^)#]+)\)", TEXT)
    assert len(targets) > 3
    assert [] == [target for target in targets if not (PAGE.parent / target).exists()]
