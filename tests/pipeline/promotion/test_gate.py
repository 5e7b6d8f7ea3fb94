import numpy as np
import pytest

from pipeline.evaluation.bootstrap import CONFIDENCE_LEVEL
from pipeline.evaluation.scores import Scores
from pipeline.params.promote import Promote
from pipeline.promotion.gate import FIRST_CLASS, MIOU, GateOutcome, decide, find_lost_classes
from pipeline.promotion.report import write_report
from segformer.cityscapes import CLASS_NAMES, NUM_CLASSES
from tests.fakes.score_factory import make_paired_scores

RULES = Promote(max_class_loss=0.05, bootstrap=300, seed=0)
CHAMPION = make_paired_scores(0.7)
POLE, TRAIN = CLASS_NAMES.index("pole"), CLASS_NAMES.index("train")


def but(accuracy: float, train_id: int, other: float) -> np.ndarray:
    """An accuracy for all classes, and another one for one of them."""
    accuracies = np.full(NUM_CLASSES, accuracy)
    accuracies[train_id] = other
    return accuracies


@pytest.mark.parametrize(
    ("challenger", "outcome", "is_promoted"),
    [
        (make_paired_scores(0.8, seed=1), GateOutcome.BETTER, True),
        (make_paired_scores(0.6, seed=1), GateOutcome.WORSE, False),
        (make_paired_scores(0.7, seed=1), GateOutcome.INCONCLUSIVE, False),
        (CHAMPION, GateOutcome.INCONCLUSIVE, False),
        (make_paired_scores(but(0.8, POLE, 0.5), seed=1), GateOutcome.CLASS_REGRESSED, False),
        (
            make_paired_scores(0.8, protocol="val24/official/64x128/whole/ss/last"),
            GateOutcome.PROTOCOL_MISMATCH,
            0,
        ),
        (make_paired_scores(0.8, frames=23), GateOutcome.DATA_MISMATCH, False),
        (make_paired_scores(0.8, truth_seed=1), GateOutcome.DATA_MISMATCH, False),
    ],
)
def test_outcomes(challenger: Scores, outcome: GateOutcome, is_promoted: bool) -> None:
    """Only a model that is better beyond chance, in all classes well enough, is promoted."""
    decision = decide(RULES, challenger, CHAMPION)
    assert outcome == decision.outcome, decision.reason
    assert is_promoted == decision.is_promoted


def test_the_difference_is_that_of_the_mious() -> None:
    """The value compared is mIoU less mIoU; the interval is about it and excludes 0 if better."""
    challenger = make_paired_scores(0.8, seed=1)
    contest = decide(RULES, challenger, CHAMPION).scores
    assert contest is not None
    mious = [one.metrics(10, 0)["miou"] or 0 for one in (challenger, CHAMPION)]
    difference = contest.difference
    np.testing.assert_allclose(mious[0] - mious[1], difference.value[MIOU], atol=2e-6)
    assert 0 < difference.low[MIOU] < difference.value[MIOU] < difference.high[MIOU]
    assert (difference.p[MIOU] < 1 - CONFIDENCE_LEVEL) == (difference.low[MIOU] > 0)


def test_pairing_sees_what_two_intervals_would_not() -> None:
    """A point better on every frame is better, though frames differ far more than that."""
    hard = np.linspace(0.4, 0.9, 24)
    champion, challenger = (
        make_paired_scores(0.0, frame_offsets=hard + gain, noise=0) for gain in (0, 0.01)
    )
    intervals = [one.metrics(300, 0) for one in (champion, challenger)]
    assert (intervals[0]["miou_high"] or 0) > (intervals[1]["miou_low"] or 0)
    assert GateOutcome.BETTER == decide(RULES, challenger, champion).outcome


def test_a_loss_of_just_the_bound_is_allowed() -> None:
    """The bound itself passes, a hair more does not, and the worst class is named first."""
    challenger = make_paired_scores(but(0.8, POLE, 0.4), seed=1)
    contest = decide(RULES, challenger, CHAMPION).scores
    assert contest is not None
    loss = -contest.difference.value[FIRST_CLASS + POLE]
    assert [] == find_lost_classes(contest, loss)
    assert POLE == find_lost_classes(contest, loss - 1e-6)[0]


def test_a_class_in_one_frame_is_not_waved_through() -> None:
    """Where there is no interval for a rare class that collapses, the champion stays."""
    champion, challenger = (
        make_paired_scores(x, frames_with_class={TRAIN: 1}) for x in (0.9, but(0.97, TRAIN, 0.0))
    )
    decision = decide(RULES, challenger, champion)
    assert GateOutcome.CLASS_REGRESSED == decision.outcome
    assert "train" in decision.reason
    assert "no interval" in decision.reason


def test_one_frame_promotes_nothing() -> None:
    """With a single frame there is no interval, so nobody can be told apart."""
    champion, challenger = (make_paired_scores(x, frames=1) for x in (0.5, 0.9))
    assert GateOutcome.INCONCLUSIVE == decide(RULES, challenger, champion).outcome


def test_the_report_shows_every_class() -> None:
    """A row per class with both IoUs, difference and interval; what was lost is marked."""
    decision = decide(RULES, make_paired_scores(but(0.8, POLE, 0.5), seed=1), CHAMPION)
    report = write_report(decision, RULES, challenger="dice-0", champion="ce-0 (version 1)")
    assert report.startswith("# Gate: dice-0 is not promoted\n")
    assert decision.reason in report
    rows = {line.split(" | ")[0].strip("| *"): line for line in report.splitlines() if "|" in line}
    assert set(CLASS_NAMES) <= set(rows)
    assert "too much" in rows["pole"]
    assert "too much" not in rows["road"]
    assert decision.scores is not None
    value = 100 * decision.scores.difference.value[FIRST_CLASS + POLE]
    assert f"| {value:+.1f} |" in rows["pole"]


def test_a_class_that_never_occurs_is_named() -> None:
    """A class in neither truth nor prediction has no row, and is not forgotten either."""
    before = TRAIN - 1  # what is missed of it would be taken for a train
    champion, challenger = (
        make_paired_scores(but(x, before, 2), frames_with_class={TRAIN: 0}) for x in (0.7, 0.8)
    )
    decision = decide(RULES, challenger, champion)
    report = write_report(decision, RULES, challenger="a", champion="b")
    assert GateOutcome.BETTER == decision.outcome
    assert "| train |" not in report
    assert "predictions: train." in report
