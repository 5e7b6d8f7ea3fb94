"""What the names in a zip for the test server say: which frames, which are missing, which extra."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Remarks:
    """What names say, a line each.

    Attributes:
        problems: at which the official script stops.
        notes: what it passes over, but is seldom meant.
    """

    problems: list[str]
    notes: list[str]

    def __add__(self, more: "Remarks") -> "Remarks":
        return Remarks(self.problems + more.problems, self.notes + more.notes)


def by_frame(names: Iterable[str]) -> tuple[dict[str, str], Remarks]:
    """The prediction of every frame, `berlin_000000_000019`, and what the names say."""
    found: dict[str, list[str]] = defaultdict(list)
    notes = []
    for name in names:
        folder, _, base = name.rpartition("/")
        if folder.startswith("__MACOSX") or base == ".DS_Store":
            continue  # macOS puts these into every zip, and nobody means anything by them
        if parts := _PREDICTION.fullmatch(base):
            found[parts["stem"]].append(name)
            if folder:
                notes.append(f"{name} lies in a folder, where it is found too")
        else:
            wanted = prediction_name("berlin_000000_000019")
            notes.append(f"{name} is no prediction: they are named like {wanted}")
    problems = [
        f"{frame} has {len(names)} predictions ({', '.join(names)}): keep one"
        for frame, names in found.items()
        if len(names) > 1
    ]
    return {frame: names[0] for frame, names in found.items()}, Remarks(problems, notes)


def against_photographs(frames: Iterable[str], photographs: Iterable[str]) -> Remarks:
    """Which frames have a photograph and no prediction, and which the other way round."""
    predicted, wanted = set(frames), set(photographs)
    missing = [f"{frame} has no prediction" for frame in sorted(wanted - predicted)]
    extra = [f"{frame} is none of the photographs" for frame in sorted(predicted - wanted)]
    return Remarks(missing, extra)


def against_test_set(frames: Iterable[str]) -> Remarks:
    """Which cities of the official test set have too few or too many predictions."""
    counts = Counter(frame.partition("_")[0] for frame in frames)
    told = {
        city: f"{city} has {count(counts[city], 'prediction')}, and {wanted} frames in the test set"
        for city, wanted in TEST_FRAMES.items()
        if counts[city] != wanted
    }
    strange = [
        f"{city} is no city of the test set" for city in sorted(set(counts) - set(TEST_FRAMES))
    ]
    return Remarks(
        [line for city, line in told.items() if counts[city] < TEST_FRAMES[city]],
        [line for city, line in told.items() if counts[city] > TEST_FRAMES[city]] + strange,
    )
