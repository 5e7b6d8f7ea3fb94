"""pipeline.params.section: types, limits and messages of parameters."""

from typing import Literal

import pytest
from pydantic import PositiveFloat, PositiveInt

from pipeline.params.network_size import NetworkSize
from pipeline.params.section import Section, suggest_name
from segformer.model.variants import MIN_SIDE


class Inner(Section):
    """A section within a section."""

    flip: float


class Example(Section):
    """A section with one parameter of each kind."""

    steps: PositiveInt
    rate: PositiveFloat
    crop: tuple[PositiveInt, PositiveInt]
    source: Literal["none", "file"]
    inner: Inner


GOOD = {"steps": 5, "rate": 1e-3, "crop": [8, 16], "source": "none", "inner": {"flip": 0.5}}


def test_valid_values_are_typed() -> None:
    """Valid values are returned typed, a list of two numbers as a tuple."""
    section, mistakes = Example.parse("example", GOOD)
    assert [] == mistakes
    assert section is not None
    assert (8, 16) == section.crop


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stpes": 5}, "example.stpes is not a parameter, did you mean example.steps?"),
        (
            {"inner": {"flip": 0.5, "flp": 1}},
            "example.inner.flp is not a parameter, did you mean example.inner.flip?",
        ),
        ({"steps": 0}, "example.steps: should be greater than 0 (it is 0)"),
        ({"rate": "1e-3"}, "example.rate: should be a valid number (it is '1e-3')"),
        ({"steps": True}, "example.steps: should be a valid integer (it is True)"),
        ({"source": "hub"}, "example.source: should be 'none' or 'file' (it is 'hub')"),
    ],
)
def test_the_message_of_a_mistake(change: dict[str, object], message: str) -> None:
    """The message has the key, what is allowed, and the value."""
    section, mistakes = Example.parse("example", GOOD | change)
    assert section is None
    assert [message] == mistakes


def test_all_mistakes_are_reported_at_once() -> None:
    """Two wrong values and a missing one are three messages."""
    values = {**GOOD, "steps": -1, "source": 3}
    del values["rate"]
    _, mistakes = Example.parse("example", values)
    assert {"example.steps", "example.rate", "example.source"} == {
        mistake.replace(":", " ").split()[0] for mistake in mistakes
    }
    assert "example.rate is missing" in mistakes


def test_a_misspelled_name_is_one_mistake() -> None:
    """A parameter under a misspelled name is not reported as missing too."""
    values = {**GOOD, "stpes": 5}
    del values["steps"]
    expected = ["example.stpes is not a parameter, did you mean example.steps?"]
    assert expected == Example.parse("example", values)[1]


def test_a_section_must_have_parameters() -> None:
    """A number in place of a section is refused."""
    expected = ["example should be a section with parameters, not 3"]
    assert expected == Example.parse("example", 3)[1]


class Network(Section):
    """A section with the size of a network's input."""

    size: NetworkSize


def test_a_size_too_small_for_the_network_is_refused() -> None:
    """The smallest side is the encoder's."""
    section, _ = Network.parse("network", {"size": [MIN_SIDE, MIN_SIDE]})
    assert section is not None
    section, mistakes = Network.parse("network", {"size": [MIN_SIDE - 1, 64]})
    assert section is None
    assert ["network.size.0: should be greater than or equal to 29 (it is 28)"] == mistakes


def test_infinity_is_refused() -> None:
    """YAML's .inf and .nan are refused for a number."""
    for value in (float("inf"), float("nan")):
        section, _ = Example.parse("example", GOOD | {"rate": value})
        assert section is None


def test_no_suggestion_without_a_close_match() -> None:
    """A name that resembles none gets no suggestion."""
    assert "" == suggest_name("zzz", ["steps", "rate"])
