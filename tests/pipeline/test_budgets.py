import pandas as pd
import pytest

from pipeline.budgets import flips


@pytest.mark.parametrize(
    ("lead", "expected"),
    [
        ([0.1, 0.2, 0.1], []),
        ([-0.1, 0.2, 0.1], [20]),
        ([-0.1, 0.2, -0.1], [20, 30]),
        ([-0.1, 0.0, 0.1], [30]),
        ([0.1, 0.0, 0.1], []),
        ([0.0, 0.1, 0.1], []),
        ([-0.1, float("nan"), 0.1], [30]),
        ([], []),
    ],
)
def test_a_flip_is_the_first_step_with_another_leader(
    lead: list[float], expected: list[int]
) -> None:
    """By hand: ties and steps without a value flip nothing by themselves."""
    steps = [10, 20, 30][: len(lead)]
    assert expected == flips(pd.Series(lead, index=steps, dtype=float))
