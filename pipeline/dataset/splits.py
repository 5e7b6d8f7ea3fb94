"""Which frames are trained on, which are watched meanwhile, and which give the final number."""

import hashlib
from collections.abc import Callable, Iterable, Sequence

from pipeline.params.remap import HeldOut, SplitRule
from segformer.cityscapes import TRAIN_EXTRA

TRAIN = "train"
"""Trained on; class weights and sampling come from them alone."""

VAL = "val"
"""Watched during training; with the rule `official` they also give the final number."""

TEST = "test"
"""Gives the final number, and nothing is chosen by it; there is none with the rule `official`."""

TRAINING_SPLITS = (TRAIN, TRAIN_EXTRA)


def parse_city(key: str) -> str:
    """`aachen` of `train/aachen/aachen_000000_000019`."""
    return key.split("/")[1]


def split_id(rule: SplitRule, held_out: HeldOut, seed: int, *, train_extra: bool = False) -> str:
    """The split as protocol ids name it: `official`, `city-aachen+ulm`, `random-0.2-0`.

    Two ids are equal only if the two splits are. Frames of `train_extra` that are trained on are
    named too: `official+train_extra`.
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
    """The split of every frame, by key; a frame is in one.

    `official` takes train and val as the data set has them. `city` and `random` hold some of the
    official train frames out as `val`, by whole cities or one by one, and keep the official val
    frames as `test`. What lies in train_extra stays there.

    Args:
        keys: frames of the official splits train, val and train_extra.
        rule: one of the three.
        held_out: how much, or which cities; `official` looks at neither this nor the seed.
        seed: decides which cities or frames make up the share: on every machine the same.

    Raises:
        ValueError: for a city without training frames, or if nothing were left to train on or to
            watch.
    """
    official = {key: key.split("/")[0] for key in keys}
    if rule == "official":
        return official
    train = [key for key, split in official.items() if split == "train"]
    if not train:
        raise ValueError(f"remap.split: there are no training frames to divide by {rule}")
    if isinstance(held_out, float):
        watched = _SAMPLERS[rule](train, held_out, seed)
    else:
        watched = _select_cities(train, held_out)
    if not watched or len(watched) == len(train):
        raise ValueError(
            f"remap.held_out: {len(watched)} of {len(train)} training frames would be held out and"
            f" {len(train) - len(watched)} trained on; there must be some of both"
        )
    becomes = {"train": TRAIN, "val": TEST, TRAIN_EXTRA: TRAIN_EXTRA}
    return {key: VAL if key in watched else becomes[split] for key, split in official.items()}


def shared_cities(splits: dict[str, str]) -> list[str]:
    """Cities that have frames both to train on and to watch, which so resemble each other."""
    trained_on, watched = (
        {parse_city(key) for key, split in splits.items() if split in chosen}
        for chosen in (TRAINING_SPLITS, (VAL,))
    )
    return sorted(trained_on & watched)


def _select_cities(train: Sequence[str], names: Iterable[str]) -> set[str]:
    known = {parse_city(key) for key in train}
    unknown = sorted(set(names) - known)
    if unknown:
        raise ValueError(
            f"remap.held_out: no training frames are of {', '.join(unknown)}; choose from"
            f" {', '.join(sorted(known))}"
        )
    return {key for key in train if parse_city(key) in names}


def _sample_cities(train: Sequence[str], share: float, seed: int) -> set[str]:
    """Cities in a random order while they fit into the share, then one more if that is nearer."""
    frames: dict[str, list[str]] = {}
    for key in train:
        frames.setdefault(parse_city(key), []).append(key)
    missing = share * len(train)
    chosen: list[str] = []
    for city in _shuffle(frames, seed):
        if len(frames[city]) <= missing:
            chosen.append(city)
            missing -= len(frames[city])
    smallest = min(frames.keys() - chosen, key=lambda city: (len(frames[city]), city))
    if not chosen or (len(frames) - len(chosen) > 1 and len(frames[smallest]) < 2 * missing):
        chosen.append(smallest)
    return {key for city in chosen for key in frames[city]}


def _sample_frames(train: Sequence[str], share: float, seed: int) -> set[str]:
    number = min(max(round(share * len(train)), 1), len(train) - 1)
    return set(_shuffle(train, seed)[:number])


_SAMPLERS: dict[str, Callable[[Sequence[str], float, int], set[str]]] = {
    "city": _sample_cities,
    "random": _sample_frames,
}


def _shuffle(names: Iterable[str], seed: int) -> list[str]:
    """In the order of their sums: on every machine, and with every NumPy, the same."""
    return sorted(names, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())
