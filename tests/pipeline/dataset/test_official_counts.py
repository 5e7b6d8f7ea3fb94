import numpy as np
import pytest

from pipeline.dataset.official_counts import OFFICIAL_FRAMES, compare_counts, find_missing_frames
from tests.pipeline.dataset.test_splits import TRAIN, VAL


def official(split: str) -> list[str]:
    """As many keys of every city as the official split has."""
    return [
        f"{split}/{city}/{city}_{number:06}_000019"
        for city, frames in OFFICIAL_FRAMES[split].items()
        for number in range(frames)
    ]


def test_the_official_splits_have_their_published_sizes() -> None:
    """2975 frames from 18 cities to train on, 500 from 3 to validate on."""
    assert [2975, 500] == [sum(cities.values()) for cities in OFFICIAL_FRAMES.values()]
    assert {"train": TRAIN, "val": VAL} == OFFICIAL_FRAMES


def test_the_whole_set_has_no_gap() -> None:
    """With all frames, and coarse ones beside them, nothing is missing."""
    assert [] == find_missing_frames(
        [*official("train"), *official("val"), "train_extra/erlangen/erlangen_1_1"]
    )


def test_few_missing_frames_are_told_with_their_city() -> None:
    """2974 of 2975, 499 of 500: how many, and where, for both splits."""
    train, val = find_missing_frames([*official("train")[:-1], *official("val")[1:]])
    assert train.startswith(
        "1 of the 2975 official train frames is missing: zurich has 121 of 122."
    )
    assert val.startswith("1 of the 500 official val frames is missing: frankfurt has 266 of 267.")


def test_a_missing_city_is_told() -> None:
    """A city of which nothing is there is named as well."""
    without = [key for key in official("train") if "/ulm/" not in key]
    assert (
        "95 of the 2975 official train frames are missing: ulm has 0 of 95."
        in find_missing_frames(without)[0]
    )


def test_a_frame_too_many_hides_no_gap() -> None:
    """A foreign frame in one city does not make up for a missing one in another."""
    frames = [*official("val")[:-1], "val/lindau/lindau_999999_000019"]
    assert (
        "1 of the 500 official val frames is missing: munster has 173"
        in find_missing_frames(frames)[0]
    )


@pytest.mark.parametrize("frames", [[], official("train")[:1400], ["train/avalon/avalon_1_1"]])
def test_another_set_is_compared_with_nothing(frames: list[str]) -> None:
    """No frames, under half of the official ones, other cities: nothing is said."""
    assert [] == find_missing_frames(frames)


def test_a_gap_is_a_verdict() -> None:
    """What is missing is told as something that does not agree, whatever the frames' size."""
    frames = official("val")[1:]
    ((agrees, sentence),) = compare_counts(frames, np.zeros((len(frames), 34), np.int64))
    assert not agrees
    assert "official val frames is missing" in sentence
