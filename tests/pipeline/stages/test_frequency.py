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
WRITTEN = [
    "class_frequency.csv",
    "class_frequency.png",
    "class_weights.csv",
    "per_city.csv",
    "per_split.csv",
    "sampling.csv",
]


def counted(rows: list[dict[int, int]]) -> np.ndarray:
    """(frames, 34) from the pixels by label id of each frame."""
    per_frame = np.zeros((len(rows), 34), dtype=np.int64)
    for frame, row in zip(per_frame, rows, strict=True):
        frame[list(row)] = list(row.values())
    return per_frame


def tables(
    folder: Path, frames: list[str], per_frame: np.ndarray, splits: list[str] | None = None
) -> dict[str, Path]:
    """frames.csv and pixel_counts.csv as `remap` writes them."""
    folder.mkdir(parents=True, exist_ok=True)
    listed = pd.DataFrame({"frame": frames})
    listed["split"] = splits or [frame.split("/")[0] for frame in frames]
    listed["city"] = [frame.split("/")[1] for frame in frames]
    listed["rows"], listed["columns"] = 1, per_frame.sum(axis=1)
    pixels = pd.DataFrame(per_frame, columns=[f"id_{i}" for i in range(34)])
    pixels.insert(0, "frame", frames)
    listed.to_csv(folder / "frames.csv", index=False)
    pixels.to_csv(folder / "pixel_counts.csv", index=False)
    return {"frames": folder / "frames.csv", "pixel_counts": folder / "pixel_counts.csv"}


def test_label_frequency_by_hand() -> None:
    """Pixels are summed, shares are of labelled pixels or of all, frames show at least one."""
    table = label_frequency(
        counted([{ROAD: 60, 0: 20}, {ROAD: 30, MOTORCYCLE: 10}, {RAIL_TRACK: 80}])
    ).set_index("class")
    columns = ["pixels", "share", "share_of_all", "frames"]
    assert (90, 0.9, 0.45, 2) == tuple(table.loc["road", columns])
    assert (10, 0.1, 0.05, 1) == tuple(table.loc["motorcycle", columns])
    assert (0, 0.0, 0.0, 0) == tuple(table.loc["train", columns])


def test_what_is_not_scored_has_no_share_of_the_labelled() -> None:
    """Void and rail track have a share of all pixels, and none of the labelled ones."""
    table = label_frequency(counted([{ROAD: 60, 0: 20, RAIL_TRACK: 20}])).set_index("class")
    assert [0.2, 0.2] == table.loc[["unlabeled", "rail track"], "share_of_all"].tolist()
    assert set(table.index[table["train_id"] == IGNORE]) == set(table.index[table["share"].isna()])


def test_class_frequency_is_in_train_id_order() -> None:
    """`ablation` reads the 19 rows as the 19 classes in order."""
    table = class_frequency(label_frequency(counted([{ROAD: 1}])))
    assert list(range(19)) == table["train_id"].tolist()
    assert ["class", "train_id", "category", "pixels", "share", "frames"] == list(table.columns)


def test_groups_add_up(tmp_path: Path) -> None:
    """Each split and each city has 34 rows, and the cities' pixels sum to their split's."""
    random = np.random.default_rng(0)
    frames = [
        f"{name}_000000_{i:06}" for name in ("train/a/a", "train/b/b", "val/c/c") for i in "12"
    ]
    count_classes(PARAMS, **tables(tmp_path, frames, random.integers(0, 9, (6, 34))), out=tmp_path)
    per_split, per_city = (pd.read_csv(tmp_path / f"per_{one}.csv") for one in ("split", "city"))
    assert 2 * 34 == len(per_split)
    assert 3 * 34 == len(per_city)
    summed = per_city.groupby(["split", "label_id"])["pixels"].sum()
    assert summed.tolist() == per_split["pixels"].tolist()


def test_a_city_called_nan_is_a_city(tmp_path: Path) -> None:
    """In the tables it has its rows like any other."""
    frames = ["train/nan/nan_000000_000000", "train/ulm/ulm_000000_000000"]
    count_classes(PARAMS, **tables(tmp_path, frames, counted([{ROAD: 5}, {ROAD: 7}])), out=tmp_path)
    rows = (tmp_path / "per_city.csv").read_text().splitlines()
    assert 34 == sum(row.startswith("train,nan,") for row in rows)


def test_a_group_is_its_own_frames() -> None:
    """Of two cities each row counts one."""
    table = pd.DataFrame(counted([{ROAD: 5}, {ROAD: 7}]), columns=[f"id_{i}" for i in range(34)])
    table["split"], table["city"] = "train", ["avalon", "camelot"]
    rows = group_frequency(table, ["split", "city"]).set_index(["city", "class"])
    assert [5, 7] == [rows.loc[(city, "road"), "pixels"] for city in ("avalon", "camelot")]


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


def test_only_training_frames_make_weights(tmp_path: Path) -> None:
    """A validation frame changes its own rows in the tables by group and nothing else."""
    frames = ["train/a/a_000000_000000", "val/b/b_000000_000000"]
    for folder, val_pixels in (("one", 1), ("two", 99)):
        given = tables(tmp_path / "in", frames, counted([{ROAD: 9, 0: 1}, {ROAD: val_pixels}]))
        count_classes(PARAMS, **given, out=tmp_path / folder)
    assert WRITTEN == sorted(path.name for path in (tmp_path / "one").iterdir())
    for name in WRITTEN:
        same = (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
        assert same == (not name.startswith("per_"))


def test_a_class_in_one_pixel_of_a_billion_keeps_the_weight_of_the_others(tmp_path: Path) -> None:
    """The written weights are rounded to digits that count: none of a class that occurs is 0."""
    rare = {label.label_id: 1 for label in LABELS} | {ROAD: 10**10}
    count_classes(
        PARAMS, **tables(tmp_path, ["train/a/a_000000_000000"], counted([rare])), out=tmp_path
    )
    weights = pd.read_csv(tmp_path / "class_weights.csv").drop(columns=["class", "train_id"])
    assert weights.to_numpy().min() > 0


def test_tables_of_different_frames_are_refused(tmp_path: Path) -> None:
    """A frame that only one table names is told; it is not left out in silence."""
    frames = ["train/a/a_000000_000000", "train/a/a_000001_000000"]
    given = tables(tmp_path, frames, counted([{ROAD: 9}, {ROAD: 9}]))
    shorter = given["pixel_counts"].read_text().splitlines()[:-1]
    given["pixel_counts"].write_text("\n".join(shorter) + "\n")
    with pytest.raises(ValueError, match=r"first: train/a/a_000001_000000.* remap writes both"):
        count_classes(PARAMS, **given, out=tmp_path / "out")


def test_training_frames_without_a_labelled_pixel_are_refused(tmp_path: Path) -> None:
    """Void alone gives no weights, and the message says where to look."""
    given = tables(tmp_path, ["train/a/a_000000_000000"], counted([{0: 9}]))
    with pytest.raises(ValueError, match="no training frame has a labeled pixel"):
        count_classes(PARAMS, **given, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_a_person_should_know(tmp_path: Path) -> None:
    """The frames, the labelled share, the rarest class and the classes that never occur."""
    every = {label.label_id: 10 for label in LABELS if label.train_id < 17} | {MOTORCYCLE: 5}
    given = tables(tmp_path, ["train/a/a_000000_000000"], counted([every | {0: 175}]))
    first, second = count_classes(PARAMS, **given, out=tmp_path)
    assert "1 training frame, 50.0 % of the pixels labeled" in first
    assert "rarest class: motorcycle, 2.857 % of the labeled pixels, in 1 frame" in first
    assert "warning: classes without a training pixel: bicycle; they cannot be learned" == second


def official(tmp_path: Path, moved: int = 0, split: str = "train") -> list[str]:
    """What the stage says of 2975 frames that sum to the official counts, save for some pixels."""
    pixels = np.array(official_counts.OFFICIAL_PIXELS)
    pixels[[ROAD, MOTORCYCLE]] += [-moved, moved]
    # Frames of 2048 x 1024 whose sum is as given: the ids laid end to end and cut.
    ends = np.concatenate([[0], pixels.cumsum()])
    cuts = np.arange(2976)[:, None] * 2048 * 1024
    per_frame = np.diff(np.clip(ends, cuts[:-1], cuts[1:]), axis=1)
    frames = [f"train/a/a_{i:06}_000000" for i in range(2975)]
    given = tables(tmp_path, frames, per_frame, splits=["train"] * 2380 + [split] * 595)
    return count_classes(PARAMS, **given, out=tmp_path)


def test_the_official_counts_are_known(tmp_path: Path) -> None:
    """With the published training set the stage says so, and ENet's formula gives its weights."""
    assert "the counts are the official ones: all 34 agree" in official(tmp_path)
    weights = pd.read_csv(tmp_path / "class_weights.csv").set_index("class")["enet"]
    assert [3.045, 48.148] == [round(weights[name], 3) for name in ("road", "motorcycle")]


def test_the_official_counts_are_known_however_the_frames_are_divided(tmp_path: Path) -> None:
    """A part held out for validation does not hide that these are the official frames."""
    assert "the counts are the official ones: all 34 agree" in official(tmp_path, split="val")


def test_counts_that_are_almost_the_official_ones_are_told(tmp_path: Path) -> None:
    """Seven pixels of another class: both classes are named with their counts, as a warning."""
    said = official(tmp_path, moved=7)[-1]
    assert said.startswith("warning: 2 of 34 counts differ from the official training set")
    assert "road 2,036,416,518 for 2,036,416,525; motorcycle 5,449,159 for 5,449,152" in said


def test_other_sets_are_compared_with_nothing(tmp_path: Path) -> None:
    """Of any other number or size of frames the stage says nothing about the official counts."""
    given = tables(tmp_path, ["train/a/a_000000_000000"], counted([{ROAD: 9}]))
    assert not any(
        "official" in sentence for sentence in count_classes(PARAMS, **given, out=tmp_path)
    )
