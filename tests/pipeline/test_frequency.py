from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.stages.frequency import (
    Frequency,
    class_frequency,
    enet,
    erfnet,
    median,
    rare_class_sampling,
    run,
)
from segformer.cityscapes import CLASSES

# Pixels of the official training split by label id, and all of its pixels (2975 frames).
GOLDEN = [
    704950, 286002726, 81359604, 94111150, 83752079, 17818704, 75629728, 2036416525, 336090793,
    39065130, 11239214, 1260636120, 36199498, 48454166, 547202, 17860177, 3362825, 67789506, 499872,
    11477088, 30448193, 879783988, 63949536, 221979646, 67326424, 7463162, 386328286, 14772328,
    12990290, 2493375, 1300575, 12863955, 5449152, 22861233,
]  # fmt: skip
ALL_PIXELS = 2975 * 2048 * 1024
SCORED = np.array([GOLDEN[label.label_id] for label in CLASSES], dtype=np.float64)


def test_golden_counts_give_the_published_erfnet_weights() -> None:
    """The counts of the official split give ERFNet's published weights, to their four digits."""
    expected = [
        2.8149, 6.9850, 3.7890, 9.9428, 9.7702, 9.5111, 10.3114, 10.0265, 4.6323, 9.5608, 7.8698,
        9.5169, 10.3737, 6.6616, 10.2605, 10.2879, 10.2898, 10.4054, 10.1381,
    ]  # fmt: skip
    assert sum(GOLDEN) == ALL_PIXELS
    np.testing.assert_allclose(erfnet(SCORED, ALL_PIXELS), expected, atol=0.005)


def test_golden_counts_give_the_enet_weights() -> None:
    """The same for ENet, whose shares are of labelled pixels."""
    expected = [
        3.045, 12.862, 4.510, 38.157, 35.253, 31.483, 45.792, 39.694, 6.064, 32.165, 17.109, 31.563,
        47.334, 11.611, 44.600, 45.237, 45.283, 48.148, 41.925,
    ]  # fmt: skip
    np.testing.assert_allclose(enet(SCORED, ALL_PIXELS), expected, atol=0.001)


def test_median_weights() -> None:
    """The median class has weight 1, one of half its count 2, an absent one 0."""
    np.testing.assert_array_equal([2, 1, 0.5, 0], median(np.array([5.0, 10, 20, 0]), 35))


def test_class_frequency_by_hand() -> None:
    """Pixels are summed, shares are of labelled pixels, frames show at least one pixel."""
    scored = np.zeros((3, 19), dtype=np.int64)
    scored[0, 0], scored[1, 0], scored[1, 17] = 60, 30, 10
    table = class_frequency(scored).set_index("class")
    assert (90, 0.9, 2) == tuple(table.loc["road", ["pixels", "share", "frames"]])
    assert (10, 0.1, 1) == tuple(table.loc["motorcycle", ["pixels", "share", "frames"]])
    assert (0, 0.0, 0) == tuple(table.loc["train", ["pixels", "share", "frames"]])


def test_rare_class_sampling_against_drawing_by_hand() -> None:
    """Drawing a class and then a frame that shows it gives each frame its stated probability."""
    scored = np.zeros((4, 19), dtype=np.int64)
    scored[0, 0], scored[1, 0], scored[2, 0] = 50, 30, 10
    scored[2, 17] = 10  # frame 3 shows nothing
    rare, common = np.exp((1 - 0.1) / 0.5), np.exp((1 - 0.9) / 0.5)
    road, motorcycle = common / (rare + common), rare / (rare + common)
    expected = [road / 3, road / 3, road / 3 + motorcycle, 0]
    np.testing.assert_allclose(expected, rare_class_sampling(scored, 0.5))


@pytest.mark.parametrize("temperature", [0.001, 0.01, 10.0])
def test_sampling_probabilities_sum_to_one(temperature: float) -> None:
    """At any temperature the probabilities are finite and sum to 1."""
    scored = np.random.default_rng(0).integers(0, 100, (7, 19))
    probabilities = rare_class_sampling(scored, temperature)
    assert probabilities.min() >= 0
    assert 1 == pytest.approx(probabilities.sum())


def test_only_training_frames_count(tmp_path: Path) -> None:
    """A validation frame changes nothing; the same counts give the same bytes."""
    frames = pd.DataFrame({"frame": ["a", "b"], "split": ["train", "val"]})
    counts = pd.DataFrame(1, index=range(2), columns=[f"id_{i}" for i in range(34)])
    counts.insert(0, "frame", ["a", "b"])
    frames.to_csv(tmp_path / "frames.csv", index=False)
    for folder, val_pixels in (("one", 1), ("two", 99)):
        counts.loc[1, "id_7"] = val_pixels
        counts.to_csv(tmp_path / "counts.csv", index=False)
        run(
            Frequency(temperature=0.01),
            frames=tmp_path / "frames.csv",
            pixel_counts=tmp_path / "counts.csv",
            out=tmp_path / folder,
        )
    written = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert [
        "class_frequency.csv",
        "class_frequency.png",
        "class_weights.csv",
        "sampling.csv",
    ] == written
    for name in written:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
