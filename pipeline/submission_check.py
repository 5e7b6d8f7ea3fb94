"""All that is wrong with a zip for the Cityscapes test server, before the server says so."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.archive import Archive
from pipeline.parallel import in_order
from pipeline.submission_names import (
    TEST_FRAMES,
    Remarks,
    against_photographs,
    against_test_set,
    by_frame,
)
from pipeline.submission_writing import photographs_of
from pipeline.wording import count
from segformer.cityscapes import CLASSES, IGNORE, LABELS, NUM_CLASSES

TEST_SIZE = (1024, 2048)
"""Rows and columns of every photograph of the official test set."""

_KNOWN = frozenset(label.label_id for label in LABELS)
_SCORED = frozenset(label.label_id for label in CLASSES)
_TRAIN_IDS = frozenset(range(NUM_CLASSES)) | {IGNORE}
_BELOW_ROAD = frozenset(range(CLASSES[0].label_id))
_HOLDS_TRAIN_IDS = (
    "the PNGs hold train ids (0 to 18), but the server wants label ids (7 to 33): road is 7, not 0"
)


@dataclass(frozen=True)
class Verdict:
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
class _Looked:
    """The label ids in one PNG, and what is wrong with the rest of it."""

    ids: frozenset[int]
    problem: str | None


class _Look:
    """Looks at the PNG of a frame, and at how large its photograph is, in whichever process."""

    def __init__(self, predictions: Archive, photographs: Archive | None) -> None:
        self._predictions = predictions
        self._photographs = photographs

    def __call__(self, names: tuple[str, str | None]) -> _Looked:
        prediction, photograph = names
        try:
            pixels = self._predictions.open_labels(prediction)
        except ValueError as error:
            said = str(error).removeprefix(f"{self._predictions.path}: ")
            return _Looked(frozenset(), said)
        wanted = TEST_SIZE
        if self._photographs and photograph:
            wanted = self._photographs.image_size(photograph)
        ids = np.flatnonzero(np.bincount(pixels.ravel(), minlength=256)).tolist()
        return _Looked(frozenset(ids), _size_problem(prediction, pixels.shape, wanted))


def check_submission(
    path: Path, images: Path | None, *, split: str, progress: Callable[[int, int], None]
) -> Verdict:
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
        predictions, said = by_frame(archive.names())
        photographs, known = None, dict[str, str]()
        if images is None:
            said += against_test_set(predictions)
        else:
            photographs = stack.enter_context(Archive(images))
            members = photographs_of(photographs, split)
            known = {key.rpartition("/")[2]: member.name for key, member in members.items()}
            said += against_photographs(predictions, known)
        jobs = [
            (name, known.get(frame))
            for frame, name in predictions.items()
            if frame in known or (images is None and frame.partition("_")[0] in TEST_FRAMES)
        ]
        looked = {}
        results = stack.enter_context(in_order(_Look(archive, photographs), jobs))
        for (name, _), one in zip(jobs, results, strict=True):
            looked[name] = one
            progress(len(looked), len(jobs))
    problems = [one.problem for one in looked.values() if one.problem] + _id_problems(looked)
    said += Remarks(problems, _notes(looked.values()))
    return Verdict(len(predictions), said.problems, said.notes)


def _size_problem(name: str, shape: tuple[int, ...], wanted: tuple[int, int]) -> str | None:
    if shape == wanted:
        return None
    return f"{name} has {shape[0]} x {shape[1]} pixels, its photograph {wanted[0]} x {wanted[1]}"


def _id_problems(looked: Mapping[str, _Looked]) -> list[str]:
    everywhere = frozenset[int]().union(*(one.ids for one in looked.values()))
    if everywhere <= _TRAIN_IDS and everywhere & _BELOW_ROAD:
        return [_HOLDS_TRAIN_IDS]
    return [
        f"{name} holds {_listed(one.ids - _KNOWN)}, which is in no row of the label table"
        for name, one in looked.items()
        if one.ids - _KNOWN
    ]


def _notes(looked: Iterable[_Looked]) -> list[str]:
    idle = [one.ids & (_KNOWN - _SCORED) for one in looked]
    if not any(idle):
        return []
    ids = _listed(frozenset[int]().union(*idle))
    return [
        f"{ids}, never scored, in {count(sum(map(bool, idle)), 'prediction')}: each such pixel"
        " counts as missed"
    ]


def _listed(ids: Iterable[int]) -> str:
    numbers = sorted(ids)
    return f"id{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"
