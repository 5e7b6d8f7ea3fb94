"""Assigns frames to training, validation and test."""

import hashlib
from collections.abc import Callable, Iterable, Sequence

from pipeline.params.remap import HeldOut, SplitRule
from segformer.cityscapes import TRAIN_EXTRA

TRAIN = "train"
"""The split for training; class weights and sampling are computed from it alone."""

VAL = "val"
"""The split for validation during training; with the rule `official`, also the final score."""

TEST = "test"
"""The split for the final score; no choice is made on it. `official` has none."""

TRAINING_SPLITS = (TRAIN, TRAIN_EXTRA)


def parse_city(key: str) -> str:
    """`aachen` of `train/aachen/aachen_000000_000019`."""
    return key.split("/")[1]


def split_id(rule: SplitRule, held_out: HeldOut, seed: int, *, train_extra: bool = False) -> str:
    """The id of a split in protocol ids: `official`, `city-aachen+ulm`, `random-0.2-0`.

    Two ids are equal only if the two splits are. With frames of `train_extra` in training, the id
    is `official+train_extra`.
    """
    if rule == "official":
        name = str(rule)
    elif isinstance(held_out, float):
        name = f"{rule}-{held_out!r}-{seed}"  # every digit of the share
    else:
        name = f"{rule}-{'+'.join(sorted(set(held_out)))}"
    return f"{name}+{TRAIN_EXTRA}" if train_extra else name


def assign_splits(
    keys: Iterable[str], rule: SplitRule, *, held_out: HeldOut, seed: int
) -> dict[str, str]:
    """Assign a split to each frame, by key.

    `official` keeps train and val of the data set. `city` and `random` hold out some of the
    official train frames as `val`, by whole cities or frame by frame, and use the official val
    frames as `test`. Frames of train_extra stay there.

    Args:
        keys: frames of the official splits train, val and train_extra.
        rule: one of the three.
        held_out: a share, or cities; `official` uses neither this nor the seed.
        seed: selects the cities or frames of the share, the same ones on every machine.

    Raises:
        ValueError: for a city without training frames, or if no frame would be left to train on or
            to validate on.
    """
    official = {key: key.split("/")[0] for key in keys}
    if rule == "official":
        return official
    train = [key for key, split in official.items() if split == "train"]
    if not train:
        raise ValueError(f"remap.split: there are no training frames to split by {rule}")
    if isinstance(held_out, float):
        validation = _SAMPLERS[rule](train, held_out, seed)
    else:
        validation = _select_cities(train, held_out)
    if not validation or len(validation) == len(train):
        raise ValueError(
            f"remap.held_out: {len(validation)} of {len(train)} training frames would be held out"
            f" and {len(train) - len(validation)} trained on; both must be at least 1"
        )
    new_split = {"train": TRAIN, "val": TEST, TRAIN_EXTRA: TRAIN_EXTRA}
    return {key: VAL if key in validation else new_split[split] for key, split in official.items()}


def shared_cities(splits: dict[str, str]) -> list[str]:
    """Cities with frames in both training and validation, which are therefore similar."""
    training, validation = (
        {parse_city(key) for key, split in splits.items() if split in group}
        for group in (TRAINING_SPLITS, (VAL,))
    )
    return sorted(training & validation)


def _select_cities(train: Sequence[str], names: Iterable[str]) -> set[str]:
    cities = {parse_city(key) for key in train}
    unknown = sorted(set(names) - cities)
    if unknown:
        raise ValueError(
            f"remap.held_out: no training frames from {', '.join(unknown)}; choose from"
            f" {', '.join(sorted(cities))}"
        )
    return {key for key in train if parse_city(key) in names}


def _sample_cities(train: Sequence[str], share: float, seed: int) -> set[str]:
    """Take cities in random order while they fit the share, and one more if that is closer."""
    frames: dict[str, list[str]] = {}
    for key in train:
        frames.setdefault(parse_city(key), []).append(key)
    remaining = share * len(train)
    selected: list[str] = []
    for city in _shuffle(frames, seed):
        if len(frames[city]) <= remaining:
            selected.append(city)
            remaining -= len(frames[city])
    smallest = min(frames.keys() - selected, key=lambda city: (len(frames[city]), city))
    if not selected or (len(frames) - len(selected) > 1 and len(frames[smallest]) < 2 * remaining):
        selected.append(smallest)
    return {key for city in selected for key in frames[city]}


def _sample_frames(train: Sequence[str], share: float, seed: int) -> set[str]:
    num_frames = min(max(round(share * len(train)), 1), len(train) - 1)
    return set(_shuffle(train, seed)[:num_frames])


_SAMPLERS: dict[str, Callable[[Sequence[str], float, int], set[str]]] = {
    "city": _sample_cities,
    "random": _sample_frames,
}


def _shuffle(names: Iterable[str], seed: int) -> list[str]:
    """Sort by SHA-256 with the seed: the same order on every machine and with every NumPy."""
    return sorted(names, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())
