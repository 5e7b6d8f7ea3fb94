import numpy as np
import pytest

from pipeline.evaluation.bootstrap import CONFIDENCE_LEVEL
from pipeline.evaluation.scores import Scores
from pipeline.params.promote import Promote
from pipeline.promotion.gate import GateOutcome, decide, find_regressed_classes
from pipeline.promotion.report import write_report
from segformer.cityscapes import CLASS_NAMES, NUM_CLASSES
from tests.fakes.score_factory import make_paired_scores

RULES = Promote(max_class_loss=0.05, bootstrap=300, seed=0)
CHAMPION = make_paired_scores(0.7)
POLE, TRAIN = CLASS_NAMES.index("pole"), CLASS_NAMES.index("train")


def accuracy_except(accuracy: float, train_id: int, other: float) -> np.ndarray:
    """(k,) the same accuracy for all classes but one."""
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
        (
            make_paired_scores(accuracy_except(0.8, POLE, 0.5), seed=1),
            GateOutcome.CLASS_REGRESSED,
            False,
        ),
        (
            make_paired_scores(0.8, protocol="val24/official/64x128/whole/ss/last"),
            GateOutcome.PROTOCOL_MISMATCH,
            False,
        ),
        (make_paired_scores(0.8, frames=23), GateOutcome.DATA_MISMATCH, False),
        (make_paired_scores(0.8, truth_seed=1), GateOutcome.DATA_MISMATCH, False),
    ],
)
def test_outcomes(challenger: Scores, outcome: GateOutcome, is_promoted: bool) -> None:
    """Only a model that is significantly better and loses too much in no class is promoted."""
    decision = decide(RULES, challenger, CHAMPION)
    assert outcome == decision.outcome, decision.reason
    assert is_promoted == decision.is_promoted


def test_difference_is_that_of_the_mious() -> None:
    """The difference is mIoU minus mIoU; its interval holds it, and excludes 0 if better."""
    challenger = make_paired_scores(0.8, seed=1)
    scores = decide(RULES, challenger, CHAMPION).scores
    assert scores is not None
    mious = [model.metrics(10, 0)["miou"] or 0 for model in (challenger, CHAMPION)]
    miou = scores.miou
    np.testing.assert_allclose(mious[0] - mious[1], miou.difference, atol=2e-6)
    assert 0 < miou.low < miou.difference < miou.high
    assert (miou.p < 1 - CONFIDENCE_LEVEL) == (miou.low > 0)


def test_pairing_finds_a_gain_that_two_intervals_do_not() -> None:
    """One point better on every frame is better, although frames differ far more than that."""
    frame_offsets = np.linspace(0.4, 0.9, 24)
    champion, challenger = (
        make_paired_scores(0.0, frame_offsets=frame_offsets + gain, noise=0) for gain in (0, 0.01)
    )
    intervals = [model.metrics(300, 0) for model in (champion, challenger)]
    assert (intervals[0]["miou_high"] or 0) > (intervals[1]["miou_low"] or 0)
    assert GateOutcome.BETTER == decide(RULES, challenger, champion).outcome


def test_class_loss_equal_to_the_limit_is_allowed() -> None:
    """A loss of exactly the limit passes, a greater one does not; the worst class comes first."""
    challenger = make_paired_scores(accuracy_except(0.8, POLE, 0.4), seed=1)
    scores = decide(RULES, challenger, CHAMPION).scores
    assert scores is not None
    loss = -scores.class_iou[POLE].difference
    assert [] == find_regressed_classes(scores, loss)
    assert POLE == find_regressed_classes(scores, loss - 1e-6)[0]


def test_class_in_one_frame_can_block_promotion() -> None:
    """If a rare class collapses that has no interval, the champion stays."""
    champion, challenger = (
        make_paired_scores(accuracy, frames_with_class={TRAIN: 1})
        for accuracy in (0.9, accuracy_except(0.97, TRAIN, 0.0))
    )
    decision = decide(RULES, challenger, champion)
    assert GateOutcome.CLASS_REGRESSED == decision.outcome
    assert "train" in decision.reason
    assert "no interval" in decision.reason


def test_one_frame_is_inconclusive() -> None:
    """With a single frame there is no interval, so nothing is promoted."""
    champion, challenger = (make_paired_scores(accuracy, frames=1) for accuracy in (0.5, 0.9))
    assert GateOutcome.INCONCLUSIVE == decide(RULES, challenger, champion).outcome


def test_report_lists_every_class() -> None:
    """A row per class with both IoUs, difference and interval; a loss above the limit is marked."""
    decision = decide(RULES, make_paired_scores(accuracy_except(0.8, POLE, 0.5), seed=1), CHAMPION)
    report = write_report(decision, RULES, challenger="dice-0", champion="ce-0 (version 1)")
    assert report.startswith("# Gate: dice-0 is not promoted\n")
    assert decision.reason in report
    rows = {line.split(" | ")[0].strip("| *"): line for line in report.splitlines() if "|" in line}
    assert set(CLASS_NAMES) <= set(rows)
    assert "loss above the limit" in rows["pole"]
    assert "loss above the limit" not in rows["road"]
    assert decision.scores is not None
    value = 100 * decision.scores.class_iou[POLE].difference
    assert f"| {value:+.1f} |" in rows["pole"]


def test_absent_class_is_named_below_the_table() -> None:
    """A class in neither labels nor predictions has no row; the note names it."""
    before = TRAIN - 1  # its missed pixels would be predicted as train
    champion, challenger = (
        make_paired_scores(accuracy_except(accuracy, before, 2), frames_with_class={TRAIN: 0})
        for accuracy in (0.7, 0.8)
    )
    decision = decide(RULES, challenger, champion)
    report = write_report(decision, RULES, challenger="a", champion="b")
    assert GateOutcome.BETTER == decision.outcome
    assert "| train |" not in report
    assert "predictions: train." in report
