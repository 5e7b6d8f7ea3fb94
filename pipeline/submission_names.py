"""What the names in a zip for the test server say: which frames, which are missing, which extra."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from pipeline.submission import prediction_name
from pipeline.wording import count

TEST_FRAMES: Mapping[str, int] = {
    "berlin": 544,
    "bielefeld": 181,
    "bonn": 46,
    "leverkusen": 58,
    "mainz": 298,
    "munich": 398,
}
"""Frames per city of the official test set, 1525 in all."""

# As the official script looks for them: any PNG whose name begins with the frame's.
_PREDICTION = re.compile(r"(?P<stem>[^_/]+_\d{6}_\d{6})(?:[^\d/][^/]*)?\.png")


def by_frame(names: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """The prediction of every frame, `berlin_000000_000019`, and what is wrong with the names."""
    found: dict[str, list[str]] = defaultdict(list)
    problems = []
    for name in names:
        folder, _, base = name.rpartition("/")
        if folder.startswith("__MACOSX") or base == ".DS_Store":
            continue  # macOS puts these into every zip, and the official script passes them over
        if folder:
            problems.append(f"{name} lies in a folder: put it at the top of the zip")
        if parts := _PREDICTION.fullmatch(base):
            found[parts["stem"]].append(name)
        else:
            wanted = prediction_name("berlin_000000_000019")
            problems.append(f"{name} is no prediction: they are named like {wanted}")
    problems += [
        f"{frame} has {len(names)} predictions ({', '.join(names)}): keep one"
        for frame, names in found.items()
        if len(names) > 1
    ]
    return {frame: names[0] for frame, names in found.items()}, problems


def against_photographs(frames: Iterable[str], photographs: Iterable[str]) -> list[str]:
    """Which frames have a photograph and no prediction, and which the other way round."""
    predicted, wanted = set(frames), set(photographs)
    missing = [f"{frame} has no prediction" for frame in sorted(wanted - predicted)]
    extra = [f"{frame} is none of the photographs" for frame in sorted(predicted - wanted)]
    return missing + extra


def against_test_set(frames: Iterable[str]) -> list[str]:
    """Which cities of the official test set have too few or too many predictions."""
    counts = Counter(frame.partition("_")[0] for frame in frames)
    problems = [
        f"{city} has {count(counts[city], 'prediction')}, and {wanted} frames in the test set"
        for city, wanted in TEST_FRAMES.items()
        if counts[city] != wanted
    ]
    strange = sorted(set(counts) - set(TEST_FRAMES))
    return problems + [f"{city} is no city of the test set" for city in strange]
