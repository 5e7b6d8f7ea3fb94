"""All that is wrong with a zip for the Cityscapes test server, before the server says so."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.dataset.archive import Archive
from pipeline.evaluation.predictions import prediction_file_name
from pipeline.formatting import format_count
from pipeline.official.submission import select_photographs
from pipeline.parallel import ordered_map
from segformer.cityscapes import CLASSES, IGNORE, LABELS, NUM_CLASSES

TEST_IMAGE_SIZE = (1024, 2048)
"""Rows and columns of every photograph of the official test set."""

_VALID_LABEL_IDS = frozenset(label.label_id for label in LABELS)
_SCORED_LABEL_IDS = frozenset(label.label_id for label in CLASSES)
_TRAIN_IDS = frozenset(range(NUM_CLASSES)) | {IGNORE}
_IDS_BELOW_ROAD = frozenset(range(CLASSES[0].label_id))
_TRAIN_IDS_MESSAGE = (
    "the PNGs hold train ids (0 to 18), but the server wants label ids (7 to 33): road is 7, not 0"
)


@dataclass(frozen=True)
class SubmissionReport:
    """What was found.

    Attributes:
        frames: with a prediction.
        problems: what the server would refuse, or score as nonsense; a line each.
        notes: what it takes, but is probably not meant.
    """

    frames: int
    problems: list[str]
    notes: list[str]


@dataclass(frozen=True)
class _PngInspection:
    """The label ids in one PNG, and what is wrong with the rest of it."""

    ids: frozenset[int]
    problem: str | None


class _PngInspector:
    """Looks at the PNG of a frame, and at how large its photograph is, in whichever process."""

    def __init__(self, predictions: Archive, photographs: Archive | None) -> None:
        self._predictions = predictions
        self._photographs = photographs

    def __call__(self, names: tuple[str, str | None]) -> _PngInspection:
        prediction, photograph = names
        try:
            pixels = self._predictions.open_labels(prediction)
        except ValueError as error:
            said = str(error).removeprefix(f"{self._predictions.path}: ")
            return _PngInspection(frozenset(), said)
        wanted = TEST_IMAGE_SIZE
        if self._photographs and photograph:
            wanted = self._photographs.read_image_size(photograph)
        ids = np.flatnonzero(np.bincount(pixels.ravel(), minlength=256)).tolist()
        return _PngInspection(frozenset(ids), _check_size(prediction, pixels.shape, wanted))


def check_submission(
    path: Path, images: Path | None, *, split: str, progress: Callable[[int, int], None]
) -> SubmissionReport:
    """Look at every file of a zip; nothing is unpacked to the disk.

    Args:
        path: the zip.
        images: where the photographs are, for their names and sizes. None: the number of frames per
            city and the size are those of the official test set.
        split: of the photographs.
        progress: called with PNGs looked at, and how many there are.

    Raises:
        ValueError: if the zip cannot be opened or is dangerous to read, or `images` holds no
            photograph of the split, or one that cannot be read.
    """
    with ExitStack() as stack:
        archive = stack.enter_context(Archive(path))
        predictions, said = group_by_frame(archive.names())
        photographs, known = None, dict[str, str]()
        if images is None:
            said += compare_with_test_set(predictions)
        else:
            photographs = stack.enter_context(Archive(images))
            members = select_photographs(photographs, split)
            known = {key.rpartition("/")[2]: member.name for key, member in members.items()}
            said += compare_with_photographs(predictions, known)
        jobs = [
            (name, known.get(frame))
            for frame, name in predictions.items()
            if frame in known
            or (images is None and frame.partition("_")[0] in TEST_FRAMES_PER_CITY)
        ]
        looked = {}
        results = stack.enter_context(ordered_map(_PngInspector(archive, photographs), jobs))
        for (name, _), one in zip(jobs, results, strict=True):
            looked[name] = one
            progress(len(looked), len(jobs))
    problems = [one.problem for one in looked.values() if one.problem] + _check_label_ids(looked)
    said += SubmissionIssues(problems, _note_unscored_ids(looked.values()))
    return SubmissionReport(len(predictions), said.problems, said.notes)


def _check_size(name: str, shape: tuple[int, ...], expected: tuple[int, int]) -> str | None:
    if shape == expected:
        return None
    return (
        f"{name} has {shape[0]} x {shape[1]} pixels, its photograph {expected[0]} x {expected[1]}"
    )


def _check_label_ids(inspections: Mapping[str, _PngInspection]) -> list[str]:
    everywhere = frozenset[int]().union(*(one.ids for one in inspections.values()))
    if everywhere <= _TRAIN_IDS and everywhere & _IDS_BELOW_ROAD:
        return [_TRAIN_IDS_MESSAGE]
    return [
        f"{name} holds {_format_ids(one.ids - _VALID_LABEL_IDS)}, which is in no row of the label table"
        for name, one in inspections.items()
        if one.ids - _VALID_LABEL_IDS
    ]


def _note_unscored_ids(inspections: Iterable[_PngInspection]) -> list[str]:
    idle = [one.ids & (_VALID_LABEL_IDS - _SCORED_LABEL_IDS) for one in inspections]
    if not any(idle):
        return []
    ids = _format_ids(frozenset[int]().union(*idle))
    return [
        f"{ids}, never scored, in {format_count(sum(map(bool, idle)), 'prediction')}: each such pixel"
        " counts as missed"
    ]


def _format_ids(ids: Iterable[int]) -> str:
    numbers = sorted(ids)
    return f"id{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"


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
        f"{city} is no city of the test set"
        for city in sorted(set(counts) - set(TEST_FRAMES_PER_CITY))
    ]
    return SubmissionIssues(
        [line for city, line in told.items() if counts[city] < TEST_FRAMES_PER_CITY[city]],
        [line for city, line in told.items() if counts[city] > TEST_FRAMES_PER_CITY[city]]
        + strange,
    )
