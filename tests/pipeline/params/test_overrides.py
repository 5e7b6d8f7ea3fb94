"""pipeline.params.overrides: overrides of one retraining, checked before any work."""

import pytest

from pipeline.params.overrides import check_overrides
from tests.pipeline.conftest import PARAMS_FILE


def test_overrides_in_the_form_of_dvc() -> None:
    """Surrounding blanks and empty lines are dropped; lists stay lists."""
    overrides = [" train.steps = 20 ", "", "ablation.losses=[ce, dice]"]
    settings, params = check_overrides(overrides, PARAMS_FILE)
    assert ["train.steps=20", "ablation.losses=[ce, dice]"] == settings
    assert (20, ["ce", "dice"]) == (params["train"]["steps"], params["ablation"]["losses"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.stps=20", r"train\.stps is not a parameter, did you mean train\.steps\?"),
        ("train.steps", r"train\.steps: should be section\.parameter=value"),
        ("train.steps=many", r"train\.steps: .*\(it is 'many'\)"),
        ("train.steps=10,20", "expected one value; write a list as"),
        ("--queue=1", "should be section.parameter=value"),
    ],
)
def test_a_mistake_has_its_own_message(override: str, message: str) -> None:
    """A misspelled name, a missing or impossible value, and several values."""
    with pytest.raises(ValueError, match=message):
        check_overrides([override], PARAMS_FILE)


def test_all_mistakes_are_reported_at_once() -> None:
    """Two mistakes are two lines."""
    with pytest.raises(ValueError, match=r"^overrides: train\.x .*\noverrides: train\.y .*$"):
        check_overrides(["train.x=1", "train.y=1"], PARAMS_FILE)
