"""pipeline.dataset.official_counts: the published numbers, and comparison with them."""

import numpy as np
import pytest

from pipeline.dataset.official_counts import OFFICIAL_FRAMES, compare_counts, find_missing_frames
from tests.pipeline.dataset.test_splits import TRAIN, VAL


def official_keys(split: str) -> list[str]:
    """Keys with the official number of frames of each city in a split."""
    return [
        f"{split}/{city}/{city}_{number:06}_000019"
        for city, frames in OFFICIAL_FRAMES[split].items()
        for number in range(frames)
    ]


def test_the_official_splits_have_their_published_sizes() -> None:
    """2975 frames of 18 cities for training, 500 of 3 for validation."""
    assert [2975, 500] == [sum(cities.values()) for cities in OFFICIAL_FRAMES.values()]
    assert {"train": TRAIN, "val": VAL} == OFFICIAL_FRAMES


def test_the_complete_set_misses_no_frame() -> None:
    """With all fine frames, and a coarse one, nothing is missing."""
    assert [] == find_missing_frames(
        [*official_keys("train"), *official_keys("val"), "train_extra/erlangen/erlangen_1_1"]
    )


def test_missing_frames_are_reported_by_city() -> None:
    """2974 of 2975 and 499 of 500: the number and the city, for both splits."""
    train, val = find_missing_frames([*official_keys("train")[:-1], *official_keys("val")[1:]])
    assert train.startswith(
        "1 of the 2975 official train frames is missing: zurich has 121 of 122."
    )
    assert val.startswith("1 of the 500 official val frames is missing: frankfurt has 266 of 267.")


def test_a_missing_city_is_reported() -> None:
    """A city without any frame is named too."""
    keys = [key for key in official_keys("train") if "/ulm/" not in key]
    assert (
        "95 of the 2975 official train frames are missing: ulm has 0 of 95."
        in find_missing_frames(keys)[0]
    )


def test_an_extra_frame_does_not_offset_a_missing_one() -> None:
    """A surplus frame in one city does not make up for a missing one in another."""
    frames = [*official_keys("val")[:-1], "val/lindau/lindau_999999_000019"]
    assert (
        "1 of the 500 official val frames is missing: munster has 173"
        in find_missing_frames(frames)[0]
    )


@pytest.mark.parametrize("frames", [[], official_keys("train")[:1400], ["train/avalon/avalon_1_1"]])
def test_another_set_is_not_compared(frames: list[str]) -> None:
    """No frames, under half of the official ones, or other cities: no message."""
    assert [] == find_missing_frames(frames)


def test_missing_frames_are_a_disagreement() -> None:
    """Missing frames are reported as not agreeing, whatever the size of the frames."""
    frames = official_keys("val")[1:]
    ((agrees, sentence),) = compare_counts(frames, np.zeros((len(frames), 34), np.int64))
    assert not agrees
    assert "official val frames is missing" in sentence
