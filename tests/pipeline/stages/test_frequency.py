from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.dataset import official_counts
from pipeline.params.frequency import Frequency
from pipeline.stages.frequency import (
    class_frequency,
    count_classes,
    group_frequency,
    label_frequency,
    rare_class_sampling,
)
from segformer.cityscapes import IGNORE, LABELS

ROAD, RAIL_TRACK, MOTORCYCLE = 7, 10, 32  # label ids
PARAMS = Frequency(temperature=0.01, beta=0.99)
OUTPUT_FILES = [
    "class_frequency.csv",
    "class_frequency.png",
    "class_weights.csv",
    "per_city.csv",
    "per_split.csv",
    "sampling.csv",
]


def make_counts(rows: list[dict[int, int]]) -> np.ndarray:
    """Make (frames, 34) from the pixels by label id of each frame."""
    per_frame = np.zeros((len(rows), 34), dtype=np.int64)
    for frame, row in zip(per_frame, rows, strict=True):
        frame[list(row)] = list(row.values())
    return per_frame


def write_tables(
    folder: Path, frames: list[str], per_frame: np.ndarray, splits: list[str] | None = None
) -> dict[str, Path]:
    """Write frames.csv and pixel_counts.csv as `remap` does; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame({"frame": frames})
    table["split"] = splits or [frame.split("/")[0] for frame in frames]
    table["city"] = [frame.split("/")[1] for frame in frames]
    table["rows"], table["columns"] = 1, per_frame.sum(axis=1)
    pixels = pd.DataFrame(per_frame, columns=[f"id_{i}" for i in range(34)])
    pixels.insert(0, "frame", frames)
    table.to_csv(folder / "frames.csv", index=False)
    pixels.to_csv(folder / "pixel_counts.csv", index=False)
    return {"frames": folder / "frames.csv", "pixel_counts": folder / "pixel_counts.csv"}


def test_label_frequency_by_hand() -> None:
    """Pixels are summed; shares are of labeled or all pixels; frames have at least one pixel."""
    table = label_frequency(
        make_counts([{ROAD: 60, 0: 20}, {ROAD: 30, MOTORCYCLE: 10}, {RAIL_TRACK: 80}])
    ).set_index("class")
    columns = ["pixels", "share", "share_of_all", "frames"]
    assert (90, 0.9, 0.45, 2) == tuple(table.loc["road", columns])
    assert (10, 0.1, 0.05, 1) == tuple(table.loc["motorcycle", columns])
    assert (0, 0.0, 0.0, 0) == tuple(table.loc["train", columns])


def test_unscored_labels_have_no_share_of_labeled_pixels() -> None:
    """Void and rail track have a share of all pixels, but not of the labeled ones."""
    table = label_frequency(make_counts([{ROAD: 60, 0: 20, RAIL_TRACK: 20}])).set_index("class")
    assert [0.2, 0.2] == table.loc[["unlabeled", "rail track"], "share_of_all"].tolist()
    assert set(table.index[table["train_id"] == IGNORE]) == set(table.index[table["share"].isna()])


def test_class_frequency_is_in_train_id_order() -> None:
    """The 19 rows are in train-id order, as `ablation` reads them."""
    table = class_frequency(label_frequency(make_counts([{ROAD: 1}])))
    assert list(range(19)) == table["train_id"].tolist()
    assert ["class", "train_id", "category", "pixels", "share", "frames"] == list(table.columns)


def test_groups_add_up(tmp_path: Path) -> None:
    """Each split and each city has 34 rows, and the cities' pixels sum to their split's."""
    rng = np.random.default_rng(0)
    frames = [
        f"{name}_000000_{i:06}" for name in ("train/a/a", "train/b/b", "val/c/c") for i in "12"
    ]
    count_classes(
        PARAMS, **write_tables(tmp_path, frames, rng.integers(0, 9, (6, 34))), out=tmp_path
    )
    per_split, per_city = (pd.read_csv(tmp_path / f"per_{key}.csv") for key in ("split", "city"))
    assert 2 * 34 == len(per_split)
    assert 3 * 34 == len(per_city)
    sums = per_city.groupby(["split", "label_id"])["pixels"].sum()
    assert sums.tolist() == per_split["pixels"].tolist()


def test_city_called_nan(tmp_path: Path) -> None:
    """A city with the name nan has its rows in the tables."""
    frames = ["train/nan/nan_000000_000000", "train/ulm/ulm_000000_000000"]
    count_classes(
        PARAMS, **write_tables(tmp_path, frames, make_counts([{ROAD: 5}, {ROAD: 7}])), out=tmp_path
    )
    rows = (tmp_path / "per_city.csv").read_text().splitlines()
    assert 34 == sum(row.startswith("train,nan,") for row in rows)


def test_groups_count_their_own_frames() -> None:
    """The rows of a city count only its frames."""
    table = pd.DataFrame(
        make_counts([{ROAD: 5}, {ROAD: 7}]), columns=[f"id_{i}" for i in range(34)]
    )
    table["split"], table["city"] = "train", ["avalon", "camelot"]
    rows = group_frequency(table, ["split", "city"]).set_index(["city", "class"])
    assert [5, 7] == [rows.loc[(city, "road"), "pixels"] for city in ("avalon", "camelot")]


def test_rare_class_sampling_by_hand() -> None:
    """Probabilities are those of drawing a class, then one of the frames with this class."""
    scored = np.zeros((4, 19), dtype=np.int64)
    scored[0, 0], scored[1, 0], scored[2, 0] = 50, 30, 10
    scored[2, 17] = 10  # frame 3 has no labeled pixel
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


def test_weights_are_those_of_training_frames(tmp_path: Path) -> None:
    """A validation frame changes only its own rows in the tables by group."""
    frames = ["train/a/a_000000_000000", "val/b/b_000000_000000"]
    for folder, val_pixels in (("one", 1), ("two", 99)):
        inputs = write_tables(
            tmp_path / "in", frames, make_counts([{ROAD: 9, 0: 1}, {ROAD: val_pixels}])
        )
        count_classes(PARAMS, **inputs, out=tmp_path / folder)
    assert OUTPUT_FILES == sorted(path.name for path in (tmp_path / "one").iterdir())
    for name in OUTPUT_FILES:
        is_same = (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
        assert is_same == (not name.startswith("per_"))


def test_written_weights_of_present_classes_are_not_zero(tmp_path: Path) -> None:
    """Weights are written with significant digits: that of a very frequent class is not 0."""
    rare = {label.label_id: 1 for label in LABELS} | {ROAD: 10**10}
    count_classes(
        PARAMS,
        **write_tables(tmp_path, ["train/a/a_000000_000000"], make_counts([rare])),
        out=tmp_path,
    )
    weights = pd.read_csv(tmp_path / "class_weights.csv").drop(columns=["class", "train_id"])
    assert weights.to_numpy().min() > 0


def test_tables_of_different_frames_are_refused(tmp_path: Path) -> None:
    """A frame in only one of the tables is named."""
    frames = ["train/a/a_000000_000000", "train/a/a_000001_000000"]
    inputs = write_tables(tmp_path, frames, make_counts([{ROAD: 9}, {ROAD: 9}]))
    shorter = inputs["pixel_counts"].read_text().splitlines()[:-1]
    inputs["pixel_counts"].write_text("\n".join(shorter) + "\n")
    with pytest.raises(ValueError, match=r"first: train/a/a_000001_000000.* remap writes both"):
        count_classes(PARAMS, **inputs, out=tmp_path / "out")


def test_training_frames_without_labeled_pixels_are_refused(tmp_path: Path) -> None:
    """Frames with void only give no weights and are refused."""
    inputs = write_tables(tmp_path, ["train/a/a_000000_000000"], make_counts([{0: 9}]))
    with pytest.raises(ValueError, match="no training frame has a labeled pixel"):
        count_classes(PARAMS, **inputs, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_messages_summarize_the_training_set(tmp_path: Path) -> None:
    """The messages have the frames, the labeled share, the rarest class and absent classes."""
    pixels = {label.label_id: 10 for label in LABELS if label.train_id < 17} | {MOTORCYCLE: 5}
    inputs = write_tables(tmp_path, ["train/a/a_000000_000000"], make_counts([pixels | {0: 175}]))
    first, second = count_classes(PARAMS, **inputs, out=tmp_path)
    assert "1 training frame, 50.0 % of the pixels labeled" in first
    assert "rarest class: motorcycle, 2.857 % of the labeled pixels, in 1 frame" in first
    assert "warning: classes without a training pixel: bicycle; they cannot be learned" == second


def count_official(tmp_path: Path, moved: int = 0, split: str = "train") -> list[str]:
    """Run the stage on 2975 frames with the official counts, `moved` pixels of them changed."""
    pixels = np.array(official_counts.OFFICIAL_PIXELS)
    pixels[[ROAD, MOTORCYCLE]] += [-moved, moved]
    # All ids in sequence, cut into frames of 2048 x 1024.
    ends = np.concatenate([[0], pixels.cumsum()])
    cuts = np.arange(2976)[:, None] * 2048 * 1024
    per_frame = np.diff(np.clip(ends, cuts[:-1], cuts[1:]), axis=1)
    frames = [f"train/a/a_{i:06}_000000" for i in range(2975)]
    inputs = write_tables(tmp_path, frames, per_frame, splits=["train"] * 2380 + [split] * 595)
    return count_classes(PARAMS, **inputs, out=tmp_path)


def test_official_counts_are_recognized(tmp_path: Path) -> None:
    """The official training set is recognized, and ENet's formula gives its known weights."""
    assert "the counts are the official ones: all 34 agree" in count_official(tmp_path)
    weights = pd.read_csv(tmp_path / "class_weights.csv").set_index("class")["enet"]
    assert [3.045, 48.148] == [round(weights[name], 3) for name in ("road", "motorcycle")]


def test_official_counts_are_recognized_with_another_split(tmp_path: Path) -> None:
    """The official frames are recognized if some are held out for validation."""
    assert "the counts are the official ones: all 34 agree" in count_official(tmp_path, split="val")


def test_counts_near_the_official_ones_give_a_warning(tmp_path: Path) -> None:
    """With seven pixels of another class, a warning names both classes and their counts."""
    message = count_official(tmp_path, moved=7)[-1]
    assert message.startswith("warning: 2 of 34 counts differ from the official training set")
    assert "road 2,036,416,518 for 2,036,416,525; motorcycle 5,449,159 for 5,449,152" in message


def test_other_data_sets_are_not_compared(tmp_path: Path) -> None:
    """With another number or size of frames no message is about the official counts."""
    inputs = write_tables(tmp_path, ["train/a/a_000000_000000"], make_counts([{ROAD: 9}]))
    assert not any(
        "official" in message for message in count_classes(PARAMS, **inputs, out=tmp_path)
    )
