import numpy as np
import pandas as pd
import pytest

from pipeline.ablation.arms import Arm
from pipeline.ablation.comparison import Comparison, compare_losses
from pipeline.ablation.ranking import describe_ranking, find_last_change, find_rank_changes
from tests.fakes.score_factory import CLASS_SHARES, make_scores


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
def test_rank_changes_at_the_first_step_with_another_leader(
    lead: list[float], expected: list[int]
) -> None:
    """By hand: ties and steps without a value do not change the ranking."""
    steps = [10, 20, 30][: len(lead)]
    assert expected == find_rank_changes(pd.Series(lead, index=steps, dtype=float))


def make_comparison(leads: list[list[float]]) -> Comparison:
    """Dice and ce, with leads of dice: a list over seeds for each of the steps 10, 20, ..."""
    arms: dict[str, list[Arm]] = {"ce": [], "dice": []}
    for seed in range(len(leads[0])):
        for loss in arms:
            miou = [0.5 + (lead[seed] if loss == "dice" else 0) for lead in leads]
            steps = [10 * (i + 1) for i in range(len(leads))]
            validation = pd.DataFrame({"step": steps, "val_miou": miou})
            scores = make_scores(0.7, frames=3)
            arms[loss].append(
                Arm(f"{loss}-{seed}", scores, np.zeros((3, 1, 3)), validation, steps[-1])
            )
    return compare_losses(
        arms, seeds=range(len(leads[0])), baseline="ce", share=CLASS_SHARES, resamples=5, seed=0
    )


def test_rank_change_of_the_means_with_agreeing_seeds() -> None:
    """By hand: ahead in 2 of 3 seeds at step 20, behind in all at step 30."""
    comparison = make_comparison([[-0.1, -0.1, -0.1], [0.1, 0.2, -0.1], [-0.1, -0.1, -0.2]])
    expected = (
        "The ranking of the means changes at step 30: at step 20 `dice` is ahead of `ce` (in 2 of 3"
        " seeds), at step 30 behind `ce` (in 3 of 3 seeds). Earlier changes: step 20."
    )
    assert expected == describe_ranking(comparison, "dice")
    assert 30 == find_last_change(comparison, "dice")


@pytest.mark.parametrize(
    ("leads", "expected"),
    [
        (
            [[0.1, 0.1], [0.3, -0.1]],
            "The ranking of the means never changes: at step 20 `dice` is ahead of `ce` (in 1 of 2"
            " seeds).",
        ),
        ([[0.0], [0.0]], "`dice` and `ce` are equal at every validation step."),
        ([[float("nan")], [float("nan")]], ""),
    ],
)
def test_ranking_without_changes(leads: list[list[float]], expected: str) -> None:
    """By hand: the same leader throughout, always a tie, and no validation."""
    assert expected == describe_ranking(make_comparison(leads), "dice")
