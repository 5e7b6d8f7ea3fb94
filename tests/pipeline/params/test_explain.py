"""pipeline.params.explain: the query of the walls."""

import pytest

from pipeline.params.explain import Explain

VALUES = {
    "frames": 4,
    "walls": 3,
    "query": "class:traffic light",
    "stage": 2,
    "block": -1,
    "bootstrap": 50,
    "seed": 0,
}


def test_query_names_a_class() -> None:
    """The class of the query is a class of Cityscapes, spaces included."""
    section, mistakes = Explain.parse("explain", VALUES)
    assert [] == mistakes
    assert section is not None
    assert "traffic light" == section.query_class


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query": "class:persn"}, "'persn' is not a class, did you mean person?"),
        ({"query": "pixel:3,4"}, "query 'pixel:3,4' names no class: write class:NAME"),
        ({"stage": 4}, "explain.stage: should be less than or equal to 3"),
        ({"block": -2}, "explain.block: should be greater than or equal to -1"),
    ],
)
def test_impossible_values(change: dict[str, object], message: str) -> None:
    """The error names the value and what is possible."""
    section, mistakes = Explain.parse("explain", VALUES | change)
    assert section is None
    assert message in mistakes[0]
