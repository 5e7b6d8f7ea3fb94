import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.dataset.splits import assign_splits, shared_cities, split_id

# The official training cities with their numbers of frames, and the official validation set.
TRAIN = {
    "aachen": 174,
    "bochum": 96,
    "bremen": 316,
    "cologne": 154,
    "darmstadt": 85,
    "dusseldorf": 221,
    "erfurt": 109,
    "hamburg": 248,
    "hanover": 196,
    "jena": 119,
    "krefeld": 99,
    "monchengladbach": 94,
    "strasbourg": 365,
    "stuttgart": 196,
    "tubingen": 144,
    "ulm": 95,
    "weimar": 142,
    "zurich": 122,
}
VAL = {"frankfurt": 267, "lindau": 59, "munster": 174}


def keys(split: str, cities: dict[str, int]) -> list[str]:
    """So many frames of each city."""
    return [
        f"{split}/{city}/{city}_{number:06}_000019"
        for city, count in cities.items()
        for number in range(count)
    ]


OFFICIAL = keys("train", TRAIN) + keys("val", VAL)


def frames_of(splits: dict[str, str], wanted: str) -> set[str]:
    """The frames of one split."""
    return {key for key, split in splits.items() if split == wanted}


def test_the_course_s_numbers() -> None:
    """Of 2975 training frames, 2380 are trained on and 595 watched; the official 500 are test."""
    splits = assign_splits(OFFICIAL, "random", held_out=0.2, seed=0)
    assert [2380, 595, 500] == [len(frames_of(splits, one)) for one in ("train", "val", "test")]
    assert set(keys("val", VAL)) == frames_of(splits, "test")
    assert sorted(TRAIN) == shared_cities(splits)


def test_official_is_as_published() -> None:
    """Train and val stay what they are, and there is no test."""
    splits = assign_splits(OFFICIAL, "official", held_out=0.2, seed=0)
    assert set(keys("train", TRAIN)) == frames_of(splits, "train")
    assert set(keys("val", VAL)) == frames_of(splits, "val")
    assert [] == shared_cities(splits)


def test_named_cities_are_held_out_whole() -> None:
    """All frames of the cities named are watched, and no others."""
    splits = assign_splits(OFFICIAL, "city", held_out=("ulm", "zurich"), seed=0)
    assert set(keys("train", {"ulm": 95, "zurich": 122})) == frames_of(splits, "val")
    assert [] == shared_cities(splits)


@pytest.mark.parametrize("seed", range(5))
def test_a_share_of_cities_comes_near_it(seed: int) -> None:
    """Whole cities with a fifth of the frames, to within half of any city that is trained on."""
    splits = assign_splits(OFFICIAL, "city", held_out=0.2, seed=seed)
    watched = frames_of(splits, "val")
    trained_on = {key.split("/")[1] for key in frames_of(splits, "train")}
    assert 595 == pytest.approx(len(watched), abs=min(TRAIN[city] for city in trained_on) / 2)
    assert [] == shared_cities(splits)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(
    cities=st.dictionaries(st.sampled_from(sorted(TRAIN)), st.integers(1, 9), min_size=2),
    rule=st.sampled_from(["official", "city", "random"]),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 9),
)
def test_no_frame_is_in_two_splits(
    cities: dict[str, int], rule: str, share: float, seed: int
) -> None:
    """Whatever the rule: every frame once, some to train on, some to watch, test as published."""
    frames = keys("train", cities) + keys("val", {"lindau": 3})
    splits = assign_splits(frames, rule, held_out=share, seed=seed)
    train, val, test = (frames_of(splits, one) for one in ("train", "val", "test"))
    assert len(frames) == len(train) + len(val) + len(test) == len(train | val | test)
    assert train
    assert val
    assert all(key.startswith("train/") for key in train)
    # Those that give the final number are the published ones, whatever is held out.
    assert set(keys("val", {"lindau": 3})) == (val if rule == "official" else test)
    if rule != "random":
        assert [] == shared_cities(splits)


@pytest.mark.parametrize("rule", ["city", "random"])
def test_the_seed_decides(rule: str) -> None:
    """One seed gives one division, in any order of the frames; another gives another."""
    one = assign_splits(OFFICIAL, rule, held_out=0.2, seed=0)
    assert one == assign_splits(OFFICIAL[::-1], rule, held_out=0.2, seed=0)
    assert one != assign_splits(OFFICIAL, rule, held_out=0.2, seed=1)


def test_the_random_split_is_the_same_on_every_machine() -> None:
    """The frames held out are those with the smallest sums, by no one's random numbers."""
    frames = keys("train", {"ulm": 10})
    sums = {key: hashlib.sha256(f"7/{key}".encode()).hexdigest() for key in frames}
    watched = frames_of(assign_splits(frames, "random", held_out=0.3, seed=7), "val")
    assert set(sorted(frames, key=sums.__getitem__)[:3]) == watched


@pytest.mark.parametrize(
    ("held_out", "words"),
    [
        (("ulm", "paris"), "no training frames are of paris; choose from .*, ulm, "),
        (("lindau",), "no training frames are of lindau"),
        (tuple(TRAIN), "2975 of 2975 training frames would be held out and 0 trained on"),
    ],
)
def test_impossible_cities_are_refused(held_out: tuple[str, ...], words: str) -> None:
    """A city that has no training frames, and all of them at once."""
    with pytest.raises(ValueError, match=words):
        assign_splits(OFFICIAL, "city", held_out=held_out, seed=0)


@pytest.mark.parametrize("rule", ["city", "random"])
def test_a_single_frame_cannot_be_divided(rule: str) -> None:
    """With one city of one frame nothing is left, and this is said."""
    with pytest.raises(ValueError, match="there must be some of both"):
        assign_splits(keys("train", {"ulm": 1}), rule, held_out=0.5, seed=0)
    with pytest.raises(ValueError, match="no training frames to divide"):
        assign_splits(keys("val", VAL), rule, held_out=0.5, seed=0)


def test_all_that_decides_the_division_is_in_its_name() -> None:
    """The order of cities does not matter; share and seed do; official needs neither."""
    assert "official" == split_id("official", 0.2, 1)
    assert "random-0.2-1" == split_id("random", 0.2, 1)
    assert "city-0.15-1" == split_id("city", 0.15, 1)
    assert "city-aachen+ulm" == split_id("city", ("ulm", "aachen"), 1)
    assert "city-ulm" == split_id("city", ("ulm", "ulm"), 1)


def test_shares_that_differ_in_the_seventh_digit_have_two_names() -> None:
    """They may hold out another number of frames, so their scores are not to be compared."""
    assert split_id("random", 0.2, 0) != split_id("random", 0.20000001, 0)
    assert "random-0.12345678-0" == split_id("random", 0.12345678, 0)
