import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.ablation.comparison import Quantity
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


def write_and_compare(folder: Path, losses: dict[str, list[Scores]]) -> AblationResult:
    """Write arms, a list of scores over seeds for each loss, and run the stage on them."""
    write_arms(folder, losses)
    return compare_existing(folder, list(losses), len(next(iter(losses.values()))))


def write_arms(folder: Path, losses: dict[str, list[Scores]]) -> None:
    """Write arms, a list of scores over seeds for each loss."""
    for loss, of_seeds in losses.items():
        for seed, scores in enumerate(of_seeds):
            write_arm(folder, f"{loss}-{seed}", scores)


def compare_existing(folder: Path, losses: list[str], seeds: int) -> AblationResult:
    """Run the stage on the arms in the folder."""
    params, inputs = prepare_inputs(folder, losses, seeds)
    return compare_arms(params, inputs=inputs, out=folder / "ablation")


def prepare_inputs(folder: Path, losses: list[str], seeds: int) -> tuple[Ablation, AblationInputs]:
    """Write the inputs other than the arms, and return them with the section."""
    write_gradients(folder / "gradients", losses, [0])
    if not (folder / "class_frequency.csv").exists():
        write_frequency(folder / "class_frequency.csv")
    paths = [folder / name for name in ("evaluate", "train", "gradients", "class_frequency.csv")]
    return (
        Ablation(losses=losses, seeds=list(range(seeds)), baseline="ce", bootstrap=300, seed=0),
        AblationInputs(*paths),
    )


def write_and_summarize(folder: Path, losses: dict[str, list[Scores]]) -> AblationResult:
    """Write arms and return the stage's result without its files: figures take a while."""
    write_arms(folder, losses)
    num_seeds = len(next(iter(losses.values())))
    return summarize(*load_comparison(*prepare_inputs(folder, list(losses), num_seeds)))


def make_seeds(accuracy: float, first: int) -> list[Scores]:
    """Three seeds of a model: the same frames, other errors."""
    return [make_scores(accuracy, seed=first + i) for i in range(3)]


def test_better_loss_beats_the_baseline(tmp_path: Path) -> None:
    """With ten points more accuracy the challenger beats the baseline; the sentence says so."""
    result = write_and_summarize(
        tmp_path, {"ce": make_seeds(BASE, 0), "dice": make_seeds(BETTER, 10)}
    )
    assert result.sentence.startswith("After 40 steps, on 24 frames and 3 seeds, dice beats ce by ")
    low, high = result.metrics["dice-ce/low"], result.metrics["dice-ce/high"]
    assert low is not None
    assert high is not None
    assert 0 < low < high


def test_worse_loss_loses_to_the_baseline(tmp_path: Path) -> None:
    """With ten points less accuracy it loses; the points in the sentence have no sign."""
    result = write_and_summarize(
        tmp_path, {"ce": make_seeds(BASE, 0), "dice": make_seeds(WORSE, 10)}
    )
    assert re.search(r"dice loses to ce by \d+\.\d\d points", result.sentence)


def test_equal_losses_are_inconclusive(tmp_path: Path) -> None:
    """Two models of the same accuracy are not ranked."""
    result = write_and_summarize(
        tmp_path, {"ce": make_seeds(BASE, 0), "dice": make_seeds(BASE, 10)}
    )
    assert "the comparison of dice with ce is inconclusive: the difference is" in result.sentence


def test_difference_is_that_of_the_means_over_seeds(tmp_path: Path) -> None:
    """The difference in mIoU is the one loss's mean over seeds minus the other's."""
    arms = {"ce": make_seeds(BASE, 0), "dice": make_seeds(BETTER, 10)}
    metrics = write_and_summarize(tmp_path, arms).metrics
    miou = {loss: [s.metrics(1, 0)["miou"] for s in arms[loss]] for loss in arms}
    for loss in arms:
        assert np.mean(miou[loss]) == pytest.approx(metrics[f"{loss}/miou"], abs=2e-6)
        assert np.std(miou[loss], ddof=1) == pytest.approx(metrics[f"{loss}/miou_std"], abs=2e-6)
    expected = np.mean(miou["dice"]) - np.mean(miou["ce"])
    assert expected == pytest.approx(metrics["dice-ce/difference"], abs=2e-6)


def test_gain_in_one_class_is_significant_in_that_class_only(tmp_path: Path) -> None:
    """A gain in one class is significant after correction in that class only."""
    accuracy = np.full(19, BASE)
    accuracy[2] = 0.95
    write_and_summarize(
        tmp_path,
        {
            "ce": [make_scores(BASE, seed=i) for i in range(3)],
            "dice": [make_scores(accuracy, seed=i) for i in range(3)],
        },
    )
    classes = build_class_table(load_comparison(*prepare_inputs(tmp_path, ["ce", "dice"], 3))[0])
    significant = classes.loc[classes["p_holm"] < 0.05, "class"].tolist()
    # Pixels of building that are no longer predicted as wall make wall more precise, too.
    assert ["building", "wall"] == significant
    assert 19 == len(classes)


def test_one_seed_has_no_standard_deviation(tmp_path: Path) -> None:
    """With one seed the deviation is undefined, never 0, and the sentence has a caveat."""
    result = write_and_compare(
        tmp_path, {"ce": [make_scores(BASE)], "dice": [make_scores(BETTER, seed=1)]}
    )
    assert result.sentence.endswith("but not the variance between seeds.")
    facts = json.loads((tmp_path / "ablation" / "ablation.json").read_text())
    assert facts["ce"]["miou_std"] is None
    assert "standard deviation over seeds" in (tmp_path / "ablation" / "ablation.md").read_text()
    table = pd.read_csv(tmp_path / "ablation" / "ablation.csv")
    assert ["ce", "dice"] == table["loss"].tolist()
    assert table["std"].isna().all()


def test_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    """A second run writes the same bytes into every file, figures included."""
    arms = {"ce": [make_scores(BASE)], "dice": [make_scores(BETTER)]}
    write_and_compare(tmp_path, arms)
    first = {path.name: path.read_bytes() for path in (tmp_path / "ablation").iterdir()}
    write_and_compare(tmp_path, arms)
    tables = {"ablation.csv", "classes.csv", "gradients.csv"}
    figures = {"differences.png", "curves.png", "calibration.png", "gradients.png"}
    assert {"ablation.json", "ablation.md"} | tables | figures == first.keys()
    for name, content in first.items():
        assert content == (tmp_path / "ablation" / name).read_bytes(), name


def test_every_row_of_scores_has_the_protocol(tmp_path: Path) -> None:
    """The first column of the tables of losses and of classes is the protocol."""
    write_and_compare(tmp_path, {"ce": make_seeds(BASE, 0), "dice": make_seeds(BETTER, 0)})
    protocol = json.loads((tmp_path / "ablation" / "ablation.json").read_text())["protocol"]
    for name in ("ablation", "classes"):
        table = pd.read_csv(tmp_path / "ablation" / f"{name}.csv")
        assert "protocol" == table.columns[0]
        assert [protocol] == table["protocol"].unique().tolist()


def test_single_loss_is_reported_without_comparison(tmp_path: Path) -> None:
    """With only the baseline the report says that there is nothing to compare."""
    result = write_and_compare(tmp_path, {"ce": make_seeds(BASE, 0)})
    assert "nothing to compare" in result.sentence
    assert (tmp_path / "ablation" / "differences.png").is_file()


def test_missing_arms_are_named_with_their_commands(tmp_path: Path) -> None:
    """Every arm that was not trained or scored is named with the command that creates it."""
    write_arm(tmp_path, "ce-0", make_scores(BASE))
    with pytest.raises(ValueError, match="dice-0") as error:
        compare_existing(tmp_path, ["ce", "dice"], 1)
    assert "run `dvc repro evaluate@dice-0`" in str(error.value)
    assert "run `dvc repro train@dice-0`" in str(error.value)
    assert not (tmp_path / "ablation").exists()


def test_different_protocols_are_refused(tmp_path: Path) -> None:
    """Scores at another input size are never compared; both arms and both protocols are named."""
    other = make_scores(BASE, protocol="val24/official/16x32/whole/ss/last")
    with pytest.raises(ValueError, match=r"ce-0 and dice-0 have different protocols.*16x32"):
        write_and_summarize(tmp_path, {"ce": [make_scores(BASE)], "dice": [other]})


def test_different_frames_are_refused(tmp_path: Path) -> None:
    """Scores on other frames are never compared, even if their number is the same."""
    base = make_scores(BASE)
    moved = Scores(base.protocol, [*base.frames[:-1], "val/x/x_000000_000019"], base.confusions)
    with pytest.raises(ValueError, match="scored on different frames"):
        write_and_summarize(tmp_path, {"ce": [base], "dice": [moved]})


def test_different_budgets_are_refused(tmp_path: Path) -> None:
    """An arm that was trained for longer is never compared."""
    write_arm(tmp_path, "ce-0", make_scores(BASE))
    write_arm(tmp_path, "dice-0", make_scores(BASE), steps=80)
    with pytest.raises(ValueError, match="different budgets, 40 steps and 80 steps"):
        compare_existing(tmp_path, ["ce", "dice"], 1)


def test_calibration_difference_is_paired(tmp_path: Path) -> None:
    """At 70 % accuracy a confidence of 90 % is an error of 20 points, and 75 % one of 5."""
    for seed in range(3):
        write_arm(tmp_path, f"ce-{seed}", make_scores(BASE, seed=seed), confidence=0.9)
        write_arm(tmp_path, f"dice-{seed}", make_scores(BASE, seed=seed), confidence=0.75)
    metrics = summarize(*load_comparison(*prepare_inputs(tmp_path, ["ce", "dice"], 3))).metrics
    assert 0.2 == pytest.approx(metrics["ce/ece"], abs=0.01)
    assert 0.05 == pytest.approx(metrics["dice/ece"], abs=0.01)
    assert -0.15 == pytest.approx(metrics["dice-ce/ece"], abs=1e-3)
    low, high = metrics["dice-ce/ece_low"], metrics["dice-ce/ece_high"]
    assert low is not None
    assert high is not None
    assert low <= -0.15 + 1e-3 <= high + 2e-3 < 0


def test_absent_classes_are_neither_rare_nor_frequent(tmp_path: Path) -> None:
    """With 8 of 19 classes absent in training, half of the 11 others are rare."""
    for loss in ("ce", "dice"):
        write_arm(tmp_path, f"{loss}-0", make_scores(BASE))
    write_frequency(tmp_path / "class_frequency.csv", absent=8)
    comparison, _ = load_comparison(*prepare_inputs(tmp_path, ["ce", "dice"], 1))
    groups = build_class_table(comparison)["group"].value_counts()
    assert {"absent": 8, "frequent": 6, "rare": 5} == groups.to_dict()


def test_different_validation_steps_are_refused(tmp_path: Path) -> None:
    """Curves that were measured at other steps are not compared."""
    for name in ("ce-0", "dice-0"):
        write_arm(tmp_path, name, make_scores(BASE))
    history = pd.read_csv(tmp_path / "train" / "dice-0" / "history.csv")
    history.loc[history["step"] == 20, "val_miou"] = np.nan
    history.to_csv(tmp_path / "train" / "dice-0" / "history.csv", index=False)
    with pytest.raises(ValueError, match="different validation steps, 20, 40 and 40;"):
        compare_existing(tmp_path, ["ce", "dice"], 1)


def test_change_of_ranking_is_reported(tmp_path: Path) -> None:
    """Ahead at step 20 and behind at step 40: the change is in the report and in the metrics."""
    for name in ("ce-0", "dice-0"):
        write_arm(tmp_path, name, make_scores(BASE))
    history = pd.read_csv(tmp_path / "train" / "dice-0" / "history.csv")
    history.loc[history["step"] == 20, "val_miou"] += 0.1
    history.loc[history["step"] == 40, "val_miou"] -= 0.1
    history.to_csv(tmp_path / "train" / "dice-0" / "history.csv", index=False)
    results = load_comparison(*prepare_inputs(tmp_path, ["ce", "dice"], 1))
    assert 40 == summarize(*results).metrics["dice-ce/flip_step"]
    report = format_report(*results)
    assert (
        "The ranking of the means changes at step 40: at step 20 `dice` is ahead of `ce`, at step"
        " 40 behind `ce`." in report
    )


def predict_absent_class(scores: Scores, name: str, pixels: int) -> Scores:
    """The same scores, but no frame has the class, and some pixels are predicted as it."""
    k = CLASS_NAMES.index(name)
    confusions = scores.confusions.copy()
    confusions[:, k] = confusions[:, :, k] = 0
    confusions[0, 0, 0] -= pixels
    confusions[0, 0, k] = pixels
    return Scores(scores.protocol, scores.frames, confusions)


def test_prediction_of_an_absent_class_makes_no_difference(tmp_path: Path) -> None:
    """If one of two equal arms predicts one pixel as an absent class, the difference is 0.

    In the official mean that pixel costs a nineteenth of all other classes' mean, some 3 points.
    The report has a note.
    """
    arms = {
        loss: [
            predict_absent_class(make_scores(BASE, seed=seed), "bicycle", pixels)
            for seed in range(2)
        ]
        for loss, pixels in {"ce": 0, "dice": 1}.items()
    }
    metrics = write_and_summarize(tmp_path, arms).metrics
    official = [arms[loss][0].metrics(1, 0)["miou"] for loss in arms]
    assert official[0] is not None
    assert official[1] is not None
    assert official[0] - official[1] > 0.02
    assert 0 == pytest.approx(metrics["dice-ce/difference"], abs=1e-4)
    for end in ("miou", "low", "high"):
        assert metrics[f"ce/{end}"] == pytest.approx(metrics[f"dice/{end}"], abs=1e-4)
    report = format_report(*load_comparison(*prepare_inputs(tmp_path, ["ce", "dice"], 2)))
    assert "No pixel of these frames is labeled bicycle, but an arm predicts it" in report
    assert "| rare (8 of 9 classes) |" in report


def test_note_on_excluded_classes_only_if_there_are_any(tmp_path: Path) -> None:
    """If every class occurs, the report has no note on classes that are left out."""
    write_and_summarize(tmp_path, {"ce": [make_scores(BASE)], "dice": [make_scores(BETTER)]})
    assert "No pixel of these frames is labeled" not in format_report(
        *load_comparison(*prepare_inputs(tmp_path, ["ce", "dice"], 1))
    )


def test_inconclusive_result_of_few_seeds_advises_more_seeds(tmp_path: Path) -> None:
    """Student's t is 12.7 for 2 seeds and 2.8 for 5; an inconclusive report says so."""
    arms = {
        loss: [make_scores(BASE, seed=first + i) for i in range(2)]
        for loss, first in (("ce", 0), ("dice", 10))
    }
    write_and_summarize(tmp_path, arms)
    report = format_report(*load_comparison(*prepare_inputs(tmp_path, ["ce", "dice"], 2)))
    assert (
        "train more seeds: with 2 an interval reaches 12.7 between-seed standard errors" in report
    )
    assert "with 5 it would reach 2.8" in report


def test_p_values_of_groups_are_corrected_for_two(tmp_path: Path) -> None:
    """The smaller of the two p-values is doubled, as by Holm."""
    write_and_summarize(tmp_path, {"ce": make_seeds(BASE, 0), "dice": make_seeds(BASE, 10)})
    result = load_comparison(*prepare_inputs(tmp_path, ["ce", "dice"], 3))[0].results["dice"]
    assert result.difference is not None
    assert result.p_groups is not None
    uncorrected = result.difference.p[[Quantity.RARE_MIOU, Quantity.FREQUENT_MIOU]]
    assert min(1, 2 * uncorrected.min()) == pytest.approx(result.p_groups.min())
    assert uncorrected.max() <= result.p_groups.max()


def test_gradients_of_cross_entropy_with_another_baseline(tmp_path: Path) -> None:
    """With dice as the baseline the gradients of cross-entropy are compared all the same."""
    write_and_summarize(tmp_path, {"ce": make_seeds(BETTER, 0), "dice": make_seeds(WORSE, 10)})
    params, inputs = prepare_inputs(tmp_path, ["ce", "dice"], 3)
    report = format_report(*load_comparison(params.model_copy(update={"baseline": "dice"}), inputs))
    assert "batch cosine: `ce` 0.20, `dice` 0.10 at the initial weights" in report
    assert "and `ce` wins: this supports the assumption in part at most" in report


def test_report_compares_the_gradients_of_cross_entropy(tmp_path: Path) -> None:
    """A higher batch cosine at all weights and an equal error focus: values and count are right."""
    write_and_summarize(tmp_path, {"ce": make_seeds(BETTER, 0), "dice": make_seeds(WORSE, 10)})
    report = format_report(*load_comparison(*prepare_inputs(tmp_path, ["ce", "dice"], 3)))
    assert "batch cosine: `ce` 0.20, `dice` 0.10 at the initial weights" in report
    assert "and `ce` wins: this supports the assumption in part at most" in report


def test_metrics_have_the_same_keys(tmp_path: Path) -> None:
    """`dvc metrics diff` finds the same names in every ablation of the same losses."""
    first = write_and_summarize(
        tmp_path / "a", {"ce": make_seeds(BASE, 0), "dice": make_seeds(BETTER, 10)}
    )
    second = write_and_summarize(
        tmp_path / "b", {"ce": [make_scores(BASE)], "dice": [make_scores(WORSE)]}
    )
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
    """The names of arms are those of their folders in dvc.yaml."""
    section = Ablation(losses=["ce", "dice"], seeds=[0, 2], baseline="ce", bootstrap=1, seed=0)
    assert ["ce-0", "ce-2", "dice-0", "dice-2"] == section.arm_names()
