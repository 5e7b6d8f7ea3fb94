"""pipeline.explain.portraits.report and tables: findings, the strongest heads, rows."""

import numpy as np
import pytest

from pipeline.explain.portraits.measurements import HeadName, HeadPortraits
from pipeline.explain.portraits.report import find_strongest, format_report, summarize
from pipeline.explain.portraits.tables import (
    build_class_table,
    build_head_table,
    build_lift_table,
    collect_metrics,
)
from segformer.cityscapes import CLASS_NAMES, NUM_CLASSES
from tests.pipeline.explain.portraits.records import make_portraits

ROAD, LIGHT, SKY = (CLASS_NAMES.index(name) for name in ("road", "traffic light", "sky"))


@pytest.fixture
def lift() -> np.ndarray:
    """(8, 19) lifts of 1 but: head 6 attends to traffic lights, head 3 to sky, head 2 less so."""
    lift = np.ones((8, NUM_CLASSES))
    lift[6, LIGHT], lift[3, SKY], lift[2, SKY], lift[2, ROAD] = 4.0, 3.0, 2.0, 0.5
    return lift


def report(portraits: HeadPortraits, walls: dict[str, str] | None = None) -> str:
    """The report of an arm."""
    return format_report(
        portraits, arm="ce-1", protocol="val12/official", walls=walls or {}, query="class:person"
    )


def test_main_finding_names_head_class_and_interval(lift: np.ndarray) -> None:
    """The arm, then the strongest pair with its interval and its lift on other labels."""
    expected = (
        "ce-1: stage 1, block 1, head 0 attends to traffic light 4.0 times as much as uniform"
        " attention (95 % interval 3.6 to 4.4); with the labels of other frames, 2.0 times"
    )
    assert expected == summarize(make_portraits(lift), "ce-1")


def test_each_class_has_its_strongest_head(lift: np.ndarray) -> None:
    """Classes in the order of the strength, each once; lifts of 1 and below are left out."""
    assert [(6, LIGHT), (3, SKY)] == find_strongest(make_portraits(lift))


def test_uncertain_lift_does_not_come_first(lift: np.ndarray) -> None:
    """Pairs are in the order of the lower ends: 4.0, from 2.0 on, comes after 3.0, from 2.7."""
    portraits = make_portraits(lift)
    portraits.lift.low[6, LIGHT] = 2.0
    assert [(3, SKY), (6, LIGHT)] == find_strongest(portraits)


def test_insignificant_pairs_are_no_findings(lift: np.ndarray) -> None:
    """If no p-value remains below 0.05, the sentence says that nothing differs."""
    portraits = make_portraits(lift, p_holm=0.2)
    assert [] == find_strongest(portraits)
    assert "ce-1: no attention head attends more to any class than uniform attention" == summarize(
        portraits, "ce-1"
    )
    assert "none above uniform" in report(portraits)


def test_report_has_counts_and_a_row_per_class(lift: np.ndarray) -> None:
    """Counts of significant pairs, and the strongest head of each class with its frames."""
    text = report(make_portraits(lift))
    assert "Of 152 pairs of a head and a class, 3 have a lift above 1 and 1 one below" in text
    row = "| traffic light | 5.3 | stage 1, block 1, head 0 | 4.00 | 3.60 to 4.40 | 2.00 | 12 |"
    assert row in text.splitlines()


def test_report_shows_the_walls(lift: np.ndarray) -> None:
    """Each wall is an image; without walls the section says why."""
    text = report(make_portraits(lift), {"avalon.png": "Attention to person"})
    assert "![Attention to person](walls/avalon.png)" in text
    assert "No measured frame has a pixel of this class in a key" in report(make_portraits(lift))


def test_lift_table_leaves_absent_classes_out(lift: np.ndarray) -> None:
    """A row per head and class that occurs."""
    lift[:, SKY] = np.nan
    table = build_lift_table(make_portraits(lift))
    assert 8 * (NUM_CLASSES - 1) == len(table)
    assert "sky" not in set(table["class"])
    [row] = (
        table[(table["stage"] == 1) & (table["class"] == "traffic light")]
        .query("block == 1 and head == 0")
        .to_dict("records")
    )
    assert (4.0, 3.6, 4.4) == tuple(round(row[name], 6) for name in ("lift", "low", "high"))


def test_class_table_has_the_strongest_head(lift: np.ndarray) -> None:
    """A row per class, of the head whose interval begins highest."""
    table = build_class_table(make_portraits(lift)).set_index("class")
    assert NUM_CLASSES == len(table)
    columns = ["stage", "block", "head", "lift"]
    assert [1, 1, 0, 4.0] == table.loc["traffic light", columns].tolist()
    assert [0, 1, 1, 3.0] == table.loc["sky", columns].tolist()


def test_head_table_has_a_row_per_head(lift: np.ndarray) -> None:
    """Distance and entropy with their ends, in the order of the heads."""
    portraits = make_portraits(lift)
    table = build_head_table(portraits)
    names = [HeadName(*row) for row in table[["stage", "block", "head"]].to_numpy().tolist()]
    assert portraits.heads == names
    assert 0.4 == pytest.approx(table["distance"].iloc[-1])
    assert 0.48 == pytest.approx(table["entropy_low"].iloc[-1])


def test_metrics_are_means_of_stages(lift: np.ndarray) -> None:
    """The counts, and the mean distance and entropy of the heads of each stage."""
    metrics = collect_metrics(make_portraits(lift))
    assert (12, 8, 152, 3, 1) == tuple(
        metrics[name] for name in ("frames", "heads", "pairs", "above_uniform", "below_uniform")
    )
    expected = np.linspace(0.1, 0.4, 8)[:4].mean()
    assert expected == pytest.approx(metrics["stage_0_distance"], abs=1e-6)
