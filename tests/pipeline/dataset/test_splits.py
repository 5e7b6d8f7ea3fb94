"""pipeline.dataset.splits: rules, shares and ids of splits."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.dataset.splits import assign_splits, shared_cities, split_id

# The official training and validation cities with their numbers of frames.
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


def make_keys(split: str, cities: dict[str, int]) -> list[str]:
    """Keys with a number of frames per city."""
    return [
        f"{split}/{city}/{city}_{number:06}_000019"
        for city, count in cities.items()
        for number in range(count)
    ]


OFFICIAL = make_keys("train", TRAIN) + make_keys("val", VAL)


def frames_of(splits: dict[str, str], name: str) -> set[str]:
    """The frames of one split."""
    return {key for key, split in splits.items() if split == name}


def test_the_random_split_of_the_course() -> None:
    """Of 2975 training frames, 2380 stay in train and 595 become val; the official 500 are test."""
    splits = assign_splits(OFFICIAL, "random", held_out=0.2, seed=0)
    sizes = [len(frames_of(splits, name)) for name in ("train", "val", "test")]
    assert [2380, 595, 500] == sizes
    assert set(make_keys("val", VAL)) == frames_of(splits, "test")
    assert sorted(TRAIN) == shared_cities(splits)


def test_the_official_split_is_unchanged() -> None:
    """Train and val are those of the data set, and there is no test."""
    splits = assign_splits(OFFICIAL, "official", held_out=0.2, seed=0)
    assert set(make_keys("train", TRAIN)) == frames_of(splits, "train")
    assert set(make_keys("val", VAL)) == frames_of(splits, "val")
    assert [] == shared_cities(splits)


def test_named_cities_are_held_out_whole() -> None:
    """Validation has all frames of the named cities, and no others."""
    splits = assign_splits(OFFICIAL, "city", held_out=("ulm", "zurich"), seed=0)
    assert set(make_keys("train", {"ulm": 95, "zurich": 122})) == frames_of(splits, "val")
    assert [] == shared_cities(splits)


@pytest.mark.parametrize("seed", range(5))
def test_a_share_of_cities_is_close_to_the_share(seed: int) -> None:
    """Whole cities with a fifth of the frames, to within half of the smallest training city."""
    splits = assign_splits(OFFICIAL, "city", held_out=0.2, seed=seed)
    validation = frames_of(splits, "val")
    cities = {key.split("/")[1] for key in frames_of(splits, "train")}
    assert 595 == pytest.approx(len(validation), abs=min(TRAIN[city] for city in cities) / 2)
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
    """By every rule: each frame once, some in train and val, and published frames for the score."""
    frames = make_keys("train", cities) + make_keys("val", {"lindau": 3})
    splits = assign_splits(frames, rule, held_out=share, seed=seed)
    train, val, test = (frames_of(splits, name) for name in ("train", "val", "test"))
    assert len(frames) == len(train) + len(val) + len(test) == len(train | val | test)
    assert train
    assert val
    assert all(key.startswith("train/") for key in train)
    # The frames of the final score are the published ones, whatever is held out.
    assert set(make_keys("val", {"lindau": 3})) == (val if rule == "official" else test)
    if rule != "random":
        assert [] == shared_cities(splits)


@pytest.mark.parametrize("rule", ["city", "random"])
def test_the_seed_determines_the_split(rule: str) -> None:
    """One seed gives one split, for any order of the frames; another seed gives another."""
    splits = assign_splits(OFFICIAL, rule, held_out=0.2, seed=0)
    assert splits == assign_splits(OFFICIAL[::-1], rule, held_out=0.2, seed=0)
    assert splits != assign_splits(OFFICIAL, rule, held_out=0.2, seed=1)


def test_the_random_split_is_the_same_on_every_machine() -> None:
    """The held-out frames are those with the smallest hashes, not from a random generator."""
    frames = make_keys("train", {"ulm": 10})
    hashes = {key: hashlib.sha256(f"7/{key}".encode()).hexdigest() for key in frames}
    validation = frames_of(assign_splits(frames, "random", held_out=0.3, seed=7), "val")
    assert set(sorted(frames, key=hashes.__getitem__)[:3]) == validation


@pytest.mark.parametrize(
    ("held_out", "words"),
    [
        (("ulm", "paris"), "no training frames from paris; choose from .*, ulm, "),
        (("lindau",), "no training frames from lindau"),
        (tuple(TRAIN), "2975 of 2975 training frames would be held out and 0 trained on"),
    ],
)
def test_impossible_cities_are_refused(held_out: tuple[str, ...], words: str) -> None:
    """Cities without training frames, and all cities at once."""
    with pytest.raises(ValueError, match=words):
        assign_splits(OFFICIAL, "city", held_out=held_out, seed=0)


@pytest.mark.parametrize("rule", ["city", "random"])
def test_a_single_frame_cannot_be_split(rule: str) -> None:
    """One city of one frame leaves no frame to train on, and is refused."""
    with pytest.raises(ValueError, match="both must be at least 1"):
        assign_splits(make_keys("train", {"ulm": 1}), rule, held_out=0.5, seed=0)
    with pytest.raises(ValueError, match="no training frames to split"):
        assign_splits(make_keys("val", VAL), rule, held_out=0.5, seed=0)


def test_the_split_id_has_all_settings() -> None:
    """Share and seed are in the id, the order of cities is not; official has neither."""
    assert "official" == split_id("official", 0.2, 1)
    assert "random-0.2-1" == split_id("random", 0.2, 1)
    assert "city-0.15-1" == split_id("city", 0.15, 1)
    assert "city-aachen+ulm" == split_id("city", ("ulm", "aachen"), 1)
    assert "city-ulm" == split_id("city", ("ulm", "ulm"), 1)


def test_the_split_id_has_every_digit_of_the_share() -> None:
    """A slightly different share may hold out other frames, so scores are not comparable."""
    assert split_id("random", 0.2, 0) != split_id("random", 0.20000001, 0)
    assert "random-0.12345678-0" == split_id("random", 0.12345678, 0)
