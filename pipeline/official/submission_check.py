"""Find the problems of a zip for the Cityscapes test server before it is uploaded."""

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

TEST_FRAMES_PER_CITY: Mapping[str, int] = {
    "berlin": 544,
    "bielefeld": 181,
    "bonn": 46,
    "leverkusen": 58,
    "mainz": 298,
    "munich": 398,
}
"""Frames per city of the official test set, 1525 in all."""

# The rule of the official script: any PNG whose name begins with that of the frame.
_PREDICTION_PATTERN = re.compile(r"(?P<stem>[^_/]+_\d{6}_\d{6})(?:[^\d/][^/]*)?\.png")

_VALID_LABEL_IDS = frozenset(label.label_id for label in LABELS)
_SCORED_LABEL_IDS = frozenset(label.label_id for label in CLASSES)
_TRAIN_IDS = frozenset(range(NUM_CLASSES)) | {IGNORE}
_IDS_BELOW_ROAD = frozenset(range(CLASSES[0].label_id))
_TRAIN_IDS_MESSAGE = (
    "the PNGs hold train ids (0 to 18), but the server expects label ids (7 to 33): road is 7,"
    " not 0"
)


@dataclass(frozen=True)
class SubmissionReport:
    """The result of checking a submission.

    Attributes:
        frames: the number of frames with a prediction.
        problems: what the server would reject or score wrongly; a line each.
        notes: what the server accepts but is probably unintended; a line each.
    """

    frames: int
    problems: list[str]
    notes: list[str]


@dataclass(frozen=True)
class SubmissionIssues:
    """Issues of a zip, a line each.

    Attributes:
        problems: make the official script stop or score wrongly.
        notes: the official script accepts them, but they are probably unintended.
    """

    problems: list[str]
    notes: list[str]

    def __add__(self, other: "SubmissionIssues") -> "SubmissionIssues":
        return SubmissionIssues(self.problems + other.problems, self.notes + other.notes)


def check_submission(
    path: Path, images: Path | None, *, split: str, progress: Callable[[int, int], None]
) -> SubmissionReport:
    """Check every file of a zip without unpacking it to the disk.

    Args:
        path: the zip.
        images: the photographs, for their names and sizes. None: the number of frames per city and
            the size are those of the official test set.
        split: the split of the photographs.
        progress: called with PNGs checked and PNGs in all.

    Raises:
        ValueError: if the zip cannot be opened or is unsafe to read, or if `images` has no
            photograph of the split or one that cannot be read.
    """
    with ExitStack() as stack:
        archive = stack.enter_context(Archive(path))
        predictions, issues = group_by_frame(archive.names())
        photographs, photograph_names = None, dict[str, str]()
        if images is None:
            issues += compare_with_test_set(predictions)
        else:
            photographs = stack.enter_context(Archive(images))
            members = select_photographs(photographs, split)
            photograph_names = {
                key.rpartition("/")[2]: member.name for key, member in members.items()
            }
            issues += compare_with_photographs(predictions, photograph_names)
        jobs = [
            (name, photograph_names.get(frame))
            for frame, name in predictions.items()
            if frame in photograph_names
            or (images is None and frame.partition("_")[0] in TEST_FRAMES_PER_CITY)
        ]
        inspections = {}
        results = stack.enter_context(ordered_map(_PngInspector(archive, photographs), jobs))
        for (name, _), inspection in zip(jobs, results, strict=True):
            inspections[name] = inspection
            progress(len(inspections), len(jobs))
    problems = [inspection.problem for inspection in inspections.values() if inspection.problem]
    problems += _check_label_ids(inspections)
    issues += SubmissionIssues(problems, _note_unscored_ids(inspections.values()))
    return SubmissionReport(len(predictions), issues.problems, issues.notes)


def group_by_frame(names: Iterable[str]) -> tuple[dict[str, str], SubmissionIssues]:
    """Find the prediction of every frame, `berlin_000000_000019`, and the issues of the names."""
    names_by_frame: dict[str, list[str]] = defaultdict(list)
    notes = []
    for name in names:
        folder, _, base = name.rpartition("/")
        if folder.startswith("__MACOSX") or base == ".DS_Store":
            continue  # macOS adds these to every zip
        if parts := _PREDICTION_PATTERN.fullmatch(base):
            names_by_frame[parts["stem"]].append(name)
            if folder:
                notes.append(f"{name} is in a folder; the official script finds it there, too")
        else:
            example = prediction_file_name("berlin_000000_000019")
            notes.append(f"{name} is not a prediction; expected a name such as {example}")
    problems = [
        f"{frame} has {len(names)} predictions ({', '.join(names)}): keep one"
        for frame, names in names_by_frame.items()
        if len(names) > 1
    ]
    predictions = {frame: names[0] for frame, names in names_by_frame.items()}
    return predictions, SubmissionIssues(problems, notes)


def compare_with_photographs(frames: Iterable[str], photographs: Iterable[str]) -> SubmissionIssues:
    """Find frames with a photograph and no prediction, and with a prediction and no photograph."""
    predicted, expected = set(frames), set(photographs)
    missing = [f"{frame} has no prediction" for frame in sorted(expected - predicted)]
    extra = [f"{frame} has no photograph" for frame in sorted(predicted - expected)]
    return SubmissionIssues(missing, extra)


def compare_with_test_set(frames: Iterable[str]) -> SubmissionIssues:
    """Find cities of the official test set with too few or too many predictions, and others."""
    counts = Counter(frame.partition("_")[0] for frame in frames)
    problems, notes = [], []
    for city, expected in TEST_FRAMES_PER_CITY.items():
        count = format_count(counts[city], "prediction")
        message = f"{city} has {count}, but {expected} frames in the test set"
        if counts[city] < expected:
            problems.append(message)
        elif counts[city] > expected:
            notes.append(message)
    notes += [
        f"{city} is not a city of the test set"
        for city in sorted(set(counts) - set(TEST_FRAMES_PER_CITY))
    ]
    return SubmissionIssues(problems, notes)


@dataclass(frozen=True)
class _PngInspection:
    """The label ids in one PNG, and its problem other than ids, if it has one."""

    ids: frozenset[int]
    problem: str | None


class _PngInspector:
    """Reads the PNG of a frame and the size of its photograph; can be pickled for processes."""

    def __init__(self, predictions: Archive, photographs: Archive | None) -> None:
        self._predictions = predictions
        self._photographs = photographs

    def __call__(self, names: tuple[str, str | None]) -> _PngInspection:
        prediction, photograph = names
        try:
            pixels = self._predictions.open_labels(prediction)
        except ValueError as error:
            message = str(error).removeprefix(f"{self._predictions.path}: ")
            return _PngInspection(frozenset(), message)
        expected = TEST_IMAGE_SIZE
        if self._photographs and photograph:
            expected = self._photographs.read_image_size(photograph)
        ids = np.flatnonzero(np.bincount(pixels.ravel(), minlength=256)).tolist()
        return _PngInspection(frozenset(ids), _check_size(prediction, pixels.shape, expected))


def _check_size(name: str, shape: tuple[int, ...], expected: tuple[int, int]) -> str | None:
    if shape == expected:
        return None
    return (
        f"{name} has {shape[0]} x {shape[1]} pixels, its photograph {expected[0]} x {expected[1]}"
    )


def _check_label_ids(inspections: Mapping[str, _PngInspection]) -> list[str]:
    all_ids = frozenset[int]().union(*(inspection.ids for inspection in inspections.values()))
    if all_ids <= _TRAIN_IDS and all_ids & _IDS_BELOW_ROAD:
        return [_TRAIN_IDS_MESSAGE]
    invalid_ids = {name: png.ids - _VALID_LABEL_IDS for name, png in inspections.items()}
    return [
        f"{name} has {_format_ids(ids)}, not in the official label table"
        for name, ids in invalid_ids.items()
        if ids
    ]


def _note_unscored_ids(inspections: Iterable[_PngInspection]) -> list[str]:
    unscored = [png.ids & (_VALID_LABEL_IDS - _SCORED_LABEL_IDS) for png in inspections]
    if not any(unscored):
        return []
    ids = _format_ids(frozenset[int]().union(*unscored))
    count = format_count(sum(map(bool, unscored)), "prediction")
    return [f"{ids}, never scored, in {count}: each such pixel counts as a false negative"]


def _format_ids(ids: Iterable[int]) -> str:
    numbers = sorted(ids)
    return f"id{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"
