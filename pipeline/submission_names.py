"""What the names in a zip for the test server say: which frames, which are missing, which extra."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pipeline.submission import prediction_file_name
from pipeline.wording import format_count

TEST_FRAMES_PER_CITY: Mapping[str, int] = {
    "berlin": 544,
    "bielefeld": 181,
    "bonn": 46,
    "leverkusen": 58,
    "mainz": 298,
    "munich": 398,
}
"""Frames per city of the official test set, 1525 in all."""

# As the official script looks for them: any PNG whose name begins with the frame's.
_PREDICTION_PATTERN = re.compile(r"(?P<stem>[^_/]+_\d{6}_\d{6})(?:[^\d/][^/]*)?\.png")


@dataclass(frozen=True)
class SubmissionIssues:
    """What names say, a line each.

    Attributes:
        problems: at which the official script stops.
        notes: what it passes over, but is seldom meant.
    """

    problems: list[str]
    notes: list[str]

    def __add__(self, other: "SubmissionIssues") -> "SubmissionIssues":
        return SubmissionIssues(self.problems + other.problems, self.notes + other.notes)


def group_by_frame(names: Iterable[str]) -> tuple[dict[str, str], SubmissionIssues]:
    """The prediction of every frame, `berlin_000000_000019`, and what the names say."""
    found: dict[str, list[str]] = defaultdict(list)
    notes = []
    for name in names:
        folder, _, base = name.rpartition("/")
        if folder.startswith("__MACOSX") or base == ".DS_Store":
            continue  # macOS puts these into every zip, and nobody means anything by them
        if parts := _PREDICTION_PATTERN.fullmatch(base):
            found[parts["stem"]].append(name)
            if folder:
                notes.append(f"{name} lies in a folder, where it is found too")
        else:
            wanted = prediction_file_name("berlin_000000_000019")
            notes.append(f"{name} is no prediction: they are named like {wanted}")
    problems = [
        f"{frame} has {len(names)} predictions ({', '.join(names)}): keep one"
        for frame, names in found.items()
        if len(names) > 1
    ]
    return {frame: names[0] for frame, names in found.items()}, SubmissionIssues(problems, notes)


def compare_with_photographs(frames: Iterable[str], photographs: Iterable[str]) -> SubmissionIssues:
    """Which frames have a photograph and no prediction, and which the other way round."""
    predicted, wanted = set(frames), set(photographs)
    missing = [f"{frame} has no prediction" for frame in sorted(wanted - predicted)]
    extra = [f"{frame} is none of the photographs" for frame in sorted(predicted - wanted)]
    return SubmissionIssues(missing, extra)


def compare_with_test_set(frames: Iterable[str]) -> SubmissionIssues:
    """Which cities of the official test set have too few or too many predictions."""
    counts = Counter(frame.partition("_")[0] for frame in frames)
    told = {
        city: f"{city} has {format_count(counts[city], 'prediction')}, and {wanted} frames in the test set"
        for city, wanted in TEST_FRAMES_PER_CITY.items()
        if counts[city] != wanted
    }
    strange = [
        f"{city} is no city of the test set" for city in sorted(set(counts) - set(TEST_FRAMES_PER_CITY))
    ]
    return SubmissionIssues(
        [line for city, line in told.items() if counts[city] < TEST_FRAMES_PER_CITY[city]],
        [line for city, line in told.items() if counts[city] > TEST_FRAMES_PER_CITY[city]] + strange,
    )
