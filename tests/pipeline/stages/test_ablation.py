import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.ablation.comparison import FREQUENT, RARE
from pipeline.ablation.report import format_report
from pipeline.ablation.tables import build_class_table
from pipeline.evaluation.scores import Scores
from pipeline.params.ablation import Ablation
from pipeline.stages.ablation import (
    AblationInputs,
    AblationResult,
    compare_arms,
    load_comparison,
    summarize,
)
from segformer.cityscapes import CLASS_NAMES
from tests.fakes.score_factory import make_scores, write_arm, write_frequency, write_gradients

BETTER, BASE, WORSE = 0.80, 0.70, 0.60


def ablation(folder: Path, losses: dict[str, list[Scores]]) -> AblationResult:
    """Write arms, a list of scores over seeds for each loss, and run the stage on them."""
    for loss, of_seeds in losses.items():
        for seed, scores in enumerate(of_seeds):
            write_arm(folder, f"{loss}-{seed}", scores)
    return compare(folder, list(losses), len(next(iter(losses.values()))))


def compare(folder: Path, losses: list[str], seeds: int) -> AblationResult:
    """Run the stage on what is there."""
    params, inputs = given(folder, losses, seeds)
    return compare_arms(params, inputs=inputs, out=folder / "ablation")


def given(folder: Path, losses: list[str], seeds: int) -> tuple[Ablation, AblationInputs]:
    """The section and the inputs, with what is the same for every test."""
    write_gradients(folder / "gradients", losses, [0])
    if not (folder / "class_frequency.csv").exists():
        write_frequency(folder / "class_frequency.csv")
    places = [folder / name for name in ("evaluate", "train", "gradients", "class_frequency.csv")]
    return (
        Ablation(losses=losses, seeds=list(range(seeds)), baseline="ce", bootstrap=300, seed=0),
        AblationInputs(*places),
    )


def judge(folder: Path, losses: dict[str, list[Scores]]) -> AblationResult:
    """What the stage tells of arms, without its files: figures take a while."""
    for loss, of_seeds in losses.items():
        for seed, scores in enumerate(of_seeds):
            write_arm(folder, f"{loss}-{seed}", scores)
    return summarize(
        *load_comparison(*given(folder, list(losses), len(next(iter(losses.values())))))
    )


def seeds(accuracy: float, first: int) -> list[Scores]:
    """Three seeds of a model, on the same frames but for which pixels are right."""
    return [make_scores(accuracy, seed=first + i) for i in range(3)]


def test_a_clear_win_is_called_one(tmp_path: Path) -> None:
    """With ten points more accuracy the challenger beats the baseline; the sentence says all."""
    result = judge(tmp_path, {"ce": seeds(BASE, 0), "dice": seeds(BETTER, 10)})
    assert result.sentence.startswith("After 40 steps, on 24 frames and 3 seeds, dice beats ce by ")
    low, high = result.metrics["dice-ce/low"], result.metrics["dice-ce/high"]
    assert low is not None
    assert high is not None
    assert 0 < low < high


def test_a_clear_loss_is_called_one(tmp_path: Path) -> None:
    """With ten points less accuracy it loses; the points in the sentence bear no sign."""
    result = judge(tmp_path, {"ce": seeds(BASE, 0), "dice": seeds(WORSE, 10)})
    assert re.search(r"dice loses to ce by \d+\.\d\d points", result.sentence)


def test_two_of_a_kind_cannot_be_told_apart(tmp_path: Path) -> None:
    """Two models of the same accuracy are not ranked."""
    result = judge(tmp_path, {"ce": seeds(BASE, 0), "dice": seeds(BASE, 10)})
    assert "the data cannot tell whether dice is better or worse than ce" in result.sentence


def test_difference_is_that_of_the_means_over_seeds(tmp_path: Path) -> None:
    """The difference in mIoU is the mean over seeds of the one less that of the other."""
    arms = {"ce": seeds(BASE, 0), "dice": seeds(BETTER, 10)}
    metrics = judge(tmp_path, arms).metrics
    miou = {loss: [s.metrics(1, 0)["miou"] for s in arms[loss]] for loss in arms}
    for loss in arms:
        assert np.mean(miou[loss]) == pytest.approx(metrics[f"{loss}/miou"], abs=2e-6)
        assert np.std(miou[loss], ddof=1) == pytest.approx(metrics[f"{loss}/miou_std"], abs=2e-6)
    expected = np.mean(miou["dice"]) - np.mean(miou["ce"])
    assert expected == pytest.approx(metrics["dice-ce/difference"], abs=2e-6)


def test_one_class_that_gains_is_found_and_only_that(tmp_path: Path) -> None:
    """A gain in one class is significant after correction in that class alone."""
    accuracy = np.full(19, BASE)
    accuracy[2] = 0.95
    judge(
        tmp_path,
        {
            "ce": [make_scores(BASE, seed=i) for i in range(3)],
            "dice": [make_scores(accuracy, seed=i) for i in range(3)],
        },
    )
    classes = build_class_table(load_comparison(*given(tmp_path, ["ce", "dice"], 3))[0])
    found = classes.loc[classes["p_holm"] < 0.05, "class"].tolist()
    # What building no longer loses to wall makes wall more precise too.
    assert ["building", "wall"] == found
    assert 19 == len(classes)


def test_one_seed_has_no_spread_and_says_so(tmp_path: Path) -> None:
    """With one seed the deviation is empty, never 0, and the sentence says what is not covered."""
    result = ablation(tmp_path, {"ce": [make_scores(BASE)], "dice": [make_scores(BETTER, seed=1)]})
    assert result.sentence.endswith("noise between seeds is not covered.")
    facts = json.loads((tmp_path / "ablation" / "ablation.json").read_text())
    assert facts["ce"]["miou_std"] is None
    assert "deviation over seeds" in (tmp_path / "ablation" / "ablation.md").read_text()
    table = pd.read_csv(tmp_path / "ablation" / "ablation.csv")
    assert ["ce", "dice"] == table["loss"].tolist()
    assert table["std"].isna().all()


def test_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    """Run twice, every file, pictures included, is the same."""
    arms = {"ce": [make_scores(BASE)], "dice": [make_scores(BETTER)]}
    ablation(tmp_path, arms)
    first = {path.name: path.read_bytes() for path in (tmp_path / "ablation").iterdir()}
    ablation(tmp_path, arms)
    tables = {"ablation.csv", "classes.csv", "gradients.csv"}
    figures = {"differences.png", "curves.png", "calibration.png", "gradients.png"}
    assert {"ablation.json", "ablation.md"} | tables | figures == first.keys()
    for name, content in first.items():
        assert content == (tmp_path / "ablation" / name).read_bytes(), name


def test_every_row_of_scores_carries_the_protocol(tmp_path: Path) -> None:
    """In the first column, of losses and of classes."""
    ablation(tmp_path, {"ce": seeds(BASE, 0), "dice": seeds(BETTER, 0)})
    protocol = json.loads((tmp_path / "ablation" / "ablation.json").read_text())["protocol"]
    for name in ("ablation", "classes"):
        table = pd.read_csv(tmp_path / "ablation" / f"{name}.csv")
        assert "protocol" == table.columns[0]
        assert [protocol] == table["protocol"].unique().tolist()


def test_a_single_loss_is_reported_without_comparison(tmp_path: Path) -> None:
    """The baseline alone gives a report that says there is nothing to compare."""
    result = ablation(tmp_path, {"ce": seeds(BASE, 0)})
    assert "nothing to compare" in result.sentence
    assert (tmp_path / "ablation" / "differences.png").is_file()


def test_missing_arms_are_all_named_with_the_remedy(tmp_path: Path) -> None:
    """Every arm that was not trained or scored is named with the command that makes it."""
    write_arm(tmp_path, "ce-0", make_scores(BASE))
    with pytest.raises(ValueError, match="dice-0") as caught:
        compare(tmp_path, ["ce", "dice"], 1)
    assert "run `dvc repro evaluate@dice-0`" in str(caught.value)
    assert "run `dvc repro train@dice-0`" in str(caught.value)
    assert not (tmp_path / "ablation").exists()


def test_unlike_protocols_are_refused(tmp_path: Path) -> None:
    """Scores at another input size are never compared; both arms and both protocols are named."""
    other = make_scores(BASE, protocol="val24/official/16x32/whole/ss/last")
    with pytest.raises(ValueError, match=r"ce-0 and dice-0 have unlike protocols.*16x32"):
        judge(tmp_path, {"ce": [make_scores(BASE)], "dice": [other]})


def test_other_frames_are_refused(tmp_path: Path) -> None:
    """Scores on other frames are never compared, though their number is the same."""
    base = make_scores(BASE)
    moved = Scores(base.protocol, [*base.frames[:-1], "val/x/x_000000_000019"], base.confusions)
    with pytest.raises(ValueError, match="scored on other frames"):
        judge(tmp_path, {"ce": [base], "dice": [moved]})


def test_other_budgets_are_refused(tmp_path: Path) -> None:
    """An arm that was trained for longer is never compared."""
    write_arm(tmp_path, "ce-0", make_scores(BASE))
    write_arm(tmp_path, "dice-0", make_scores(BASE), steps=80)
    with pytest.raises(ValueError, match="unlike budgets, 40 steps and 80 steps"):
        compare(tmp_path, ["ce", "dice"], 1)


def test_calibration_is_compared_pair_by_pair(tmp_path: Path) -> None:
    """Right 70 % of the time and 90 % sure is an error of 20 points, 75 % sure one of 5."""
    for seed in range(3):
        write_arm(tmp_path, f"ce-{seed}", make_scores(BASE, seed=seed), confidence=0.9)
        write_arm(tmp_path, f"dice-{seed}", make_scores(BASE, seed=seed), confidence=0.75)
    metrics = summarize(*load_comparison(*given(tmp_path, ["ce", "dice"], 3))).metrics
    assert 0.2 == pytest.approx(metrics["ce/ece"], abs=0.01)
    assert 0.05 == pytest.approx(metrics["dice/ece"], abs=0.01)
    assert -0.15 == pytest.approx(metrics["dice-ce/ece"], abs=1e-3)
    low, high = metrics["dice-ce/ece_low"], metrics["dice-ce/ece_high"]
    assert low is not None
    assert high is not None
    assert low <= -0.15 + 1e-3 <= high + 2e-3 < 0


def test_classes_that_never_occur_are_neither_rare_nor_frequent(tmp_path: Path) -> None:
    """With 8 of 19 classes absent in training, half of the 11 others are rare."""
    for loss in ("ce", "dice"):
        write_arm(tmp_path, f"{loss}-0", make_scores(BASE))
    write_frequency(tmp_path / "class_frequency.csv", absent=8)
    comparison, _ = load_comparison(*given(tmp_path, ["ce", "dice"], 1))
    groups = build_class_table(comparison)["group"].value_counts()
    assert {"absent": 8, "frequent": 6, "rare": 5} == groups.to_dict()


def test_other_steps_of_validation_are_refused(tmp_path: Path) -> None:
    """Curves that were measured at other steps are not drawn into one another."""
    for name in ("ce-0", "dice-0"):
        write_arm(tmp_path, name, make_scores(BASE))
    history = pd.read_csv(tmp_path / "train" / "dice-0" / "history.csv")
    history.loc[history["step"] == 20, "val_miou"] = np.nan
    history.to_csv(tmp_path / "train" / "dice-0" / "history.csv", index=False)
    with pytest.raises(ValueError, match="unlike steps of validation, 20, 40 and 40;"):
        compare(tmp_path, ["ce", "dice"], 1)


def test_the_flip_of_the_ranking_is_told(tmp_path: Path) -> None:
    """Ahead at step 20 and behind at step 40: the flip is in the report and in the figures."""
    for name in ("ce-0", "dice-0"):
        write_arm(tmp_path, name, make_scores(BASE))
    history = pd.read_csv(tmp_path / "train" / "dice-0" / "history.csv")
    history.loc[history["step"] == 20, "val_miou"] += 0.1
    history.loc[history["step"] == 40, "val_miou"] -= 0.1
    history.to_csv(tmp_path / "train" / "dice-0" / "history.csv", index=False)
    found = load_comparison(*given(tmp_path, ["ce", "dice"], 1))
    assert 40 == summarize(*found).metrics["dice-ce/flip_step"]
    report = format_report(*found)
    assert (
        "The ranking of the means flips at step 40: at step 20 `dice` is ahead of `ce`, at step 40"
        " behind it." in report
    )


def imagine(scores: Scores, name: str, pixels: int) -> Scores:
    """The same, but no frame has this class any more, and so many pixels are taken for it."""
    k = CLASS_NAMES.index(name)
    confusions = scores.confusions.copy()
    confusions[:, k] = confusions[:, :, k] = 0
    confusions[0, 0, 0] -= pixels
    confusions[0, 0, k] = pixels
    return Scores(scores.protocol, scores.frames, confusions)


def test_a_pixel_of_a_class_that_never_occurs_decides_nothing(tmp_path: Path) -> None:
    """Equal arms, but one takes one pixel of 2,000 for a bicycle: no difference, and it is told.

    In the official mean that pixel costs a nineteenth of all other classes' mean, some 3 points.
    """
    arms = {
        loss: [imagine(make_scores(BASE, seed=seed), "bicycle", pixels) for seed in range(2)]
        for loss, pixels in {"ce": 0, "dice": 1}.items()
    }
    metrics = judge(tmp_path, arms).metrics
    official = [arms[loss][0].metrics(1, 0)["miou"] for loss in arms]
    assert official[0] is not None
    assert official[1] is not None
    assert official[0] - official[1] > 0.02
    assert 0 == pytest.approx(metrics["dice-ce/difference"], abs=1e-4)
    for end in ("miou", "low", "high"):
        assert metrics[f"ce/{end}"] == pytest.approx(metrics[f"dice/{end}"], abs=1e-4)
    report = format_report(*load_comparison(*given(tmp_path, ["ce", "dice"], 2)))
    assert "No pixel of these frames is truly bicycle, though an arm predicts it" in report
    assert "| rare (8 of 9 classes) |" in report


def test_what_occurs_everywhere_is_not_called_imagined(tmp_path: Path) -> None:
    """Where every class occurs, the report says nothing of left out classes."""
    judge(tmp_path, {"ce": [make_scores(BASE)], "dice": [make_scores(BETTER)]})
    assert "truly" not in format_report(*load_comparison(*given(tmp_path, ["ce", "dice"], 1)))


def test_few_seeds_and_no_answer_ask_for_more_seeds(tmp_path: Path) -> None:
    """Student's t for 2 seeds is 12.7 and for 5 seeds 2.8: said where the data cannot tell."""
    arms = {
        loss: [make_scores(BASE, seed=first + i) for i in range(2)]
        for loss, first in (("ce", 0), ("dice", 10))
    }
    judge(tmp_path, arms)
    report = format_report(*load_comparison(*given(tmp_path, ["ce", "dice"], 2)))
    assert "train more seeds: with 2 an interval reaches 12.7 standard errors" in report
    assert "with 5 it would reach 2.8" in report


def test_rare_and_frequent_are_corrected_for_two(tmp_path: Path) -> None:
    """The smaller of the two p-values counts twice, as Holm has it."""
    judge(tmp_path, {"ce": seeds(BASE, 0), "dice": seeds(BASE, 10)})
    result = load_comparison(*given(tmp_path, ["ce", "dice"], 3))[0].results["dice"]
    assert result.difference is not None
    assert result.p_groups is not None
    plain = result.difference.p[[RARE, FREQUENT]]
    assert min(1, 2 * plain.min()) == pytest.approx(result.p_groups.min())
    assert plain.max() <= result.p_groups.max()


def test_cross_entropy_is_judged_though_another_loss_is_the_baseline(tmp_path: Path) -> None:
    """With dice as the baseline the question is asked of cross-entropy all the same."""
    judge(tmp_path, {"ce": seeds(BETTER, 0), "dice": seeds(WORSE, 10)})
    params, inputs = given(tmp_path, ["ce", "dice"], 3)
    report = format_report(*load_comparison(params.model_copy(update={"baseline": "dice"}), inputs))
    assert "steadier from batch to batch, `ce` and `dice`: 0.20 and 0.10 at the start" in report
    assert "and `ce` wins: the guess is a part of it at most" in report


def test_the_report_says_what_the_gradients_say(tmp_path: Path) -> None:
    """Steadier at both places and no better aimed: the reading and the count are as measured."""
    judge(tmp_path, {"ce": seeds(BETTER, 0), "dice": seeds(WORSE, 10)})
    report = format_report(*load_comparison(*given(tmp_path, ["ce", "dice"], 3)))
    assert "steadier from batch to batch, `ce` and `dice`: 0.20 and 0.10 at the start" in report
    assert "and `ce` wins: the guess is a part of it at most" in report


def test_the_same_keys_whatever_the_numbers(tmp_path: Path) -> None:
    """`dvc metrics diff` sees the same names in every ablation of the same losses."""
    first = judge(tmp_path / "a", {"ce": seeds(BASE, 0), "dice": seeds(BETTER, 10)})
    second = judge(tmp_path / "b", {"ce": [make_scores(BASE)], "dice": [make_scores(WORSE)]})
    assert first.metrics.keys() == second.metrics.keys()


VALUES = {"losses": ["ce"], "seeds": [0], "baseline": "ce", "bootstrap": 10, "seed": 0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"losses": []}, "ablation.losses"),
        ({"losses": ["ce", "ce"]}, "losses contains a duplicate"),
        ({"seeds": [1, 1]}, "seeds contains a duplicate"),
        ({"baseline": "dice"}, "baseline dice is not one of losses"),
        ({"losses": ["ce", "dyce"]}, "did you mean dice?"),
    ],
)
def test_impossible_parameters(change: dict[str, object], message: str) -> None:
    """No loss, a loss or seed twice, an unknown loss or baseline: each is named."""
    section, mistakes = Ablation.parse("ablation", VALUES | change)
    assert section is None
    assert message in "\n".join(mistakes)


def test_arms_are_named_by_loss_and_seed() -> None:
    """Arms are named as dvc.yaml names their folders."""
    section = Ablation(losses=["ce", "dice"], seeds=[0, 2], baseline="ce", bootstrap=1, seed=0)
    assert ["ce-0", "ce-2", "dice-0", "dice-2"] == section.arm_names()
