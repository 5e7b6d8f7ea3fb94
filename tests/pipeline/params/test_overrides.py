"""pipeline.params.overrides: what one retraining may have otherwise, checked before any work."""

import pytest

from pipeline.params.overrides import check_overrides
from tests.pipeline.conftest import PARAMS_FILE


def test_overrides_come_out_as_dvc_takes_them() -> None:
    """Blanks around them and empty lines of the form are dropped; lists stay lists."""
    given = [" train.steps = 20 ", "", "ablation.losses=[ce, dice]"]
    settings, params = check_overrides(given, PARAMS_FILE)
    assert ["train.steps=20", "ablation.losses=[ce, dice]"] == settings
    assert (20, ["ce", "dice"]) == (params["train"]["steps"], params["ablation"]["losses"])


@pytest.mark.parametrize(
    ("override", "why"),
    [
        ("train.stps=20", r"train\.stps is not a parameter, did you mean train\.steps\?"),
        ("train.steps", r"train\.steps: should be section\.parameter=value"),
        ("train.steps=many", r"train\.steps: .*\(it is 'many'\)"),
        ("train.steps=10,20", "one value, please"),
        ("--queue=1", "should be section.parameter=value"),
    ],
)
def test_a_mistake_is_refused_with_its_remedy(override: str, why: str) -> None:
    """A misspelt name, a missing or impossible value, and several values each say what is wrong."""
    with pytest.raises(ValueError, match=why):
        check_overrides([override], PARAMS_FILE)


def test_every_mistake_is_named_at_once() -> None:
    """Two mistakes are two lines."""
    with pytest.raises(ValueError, match=r"^overrides: train\.x .*\noverrides: train\.y .*$"):
        check_overrides(["train.x=1", "train.y=1"], PARAMS_FILE)
