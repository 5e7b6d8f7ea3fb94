"""Has the official Cityscapes script score kept predictions, and compares what it says with ours.

python -m pipeline evaluate --check-official data/evaluate/ce-0
"""

import copy
import importlib
import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any, TypeVar

import numpy as np

from pipeline.archive import LABEL_IDS, Archive
from pipeline.counting import Counts
from pipeline.png_counts import count_pngs
from pipeline.predictions import kept
from pipeline.scored_frames import INSTANCE_IDS
from pipeline.scores import Scores
from segformer.cityscapes import CLASS_NAMES
from segformer.instances import (
    INSTANCE_CATEGORIES,
    INSTANCE_CLASSES,
    category_instance_iou,
    instance_iou,
)
from segformer.metrics import CATEGORIES, category_iou, class_iou

Result = TypeVar("Result")

_SCRIPT = "cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling"
_KINDS = {
    "class IoU": ("classScores", "averageScoreClasses"),
    "category IoU": ("categoryScores", "averageScoreCategories"),
    "class iIoU": ("classInstScores", "averageScoreInstClasses"),
    "category iIoU": ("categoryInstScores", "averageScoreInstCategories"),
}
"""The script's names of the scores and of their mean."""


@dataclass(frozen=True)
class Row:
    """One score, by the script and by us; nan where undefined."""

    kind: str
    name: str
    official: float
    ours: float

    @property
    def is_equal(self) -> bool:
        """Whether they are, to the last digit that the script prints."""
        return _printed(self.official) == _printed(self.ours)


def run(result: Path, *, ground_truth: Path | None, say: Callable[[str], None]) -> str:
    """Compare class IoU, category IoU and iIoU of a result.

    Args:
        result: a folder that the stage `evaluate` wrote, with predictions.
        ground_truth: the gtFine zip; None: there is none.
        say: told what will take a while.

    Returns:
        A table of both, and a sentence.

    Raises:
        ValueError: if the script is not installed, predictions or labels are missing, the script
            refuses them, or a score differs.
    """
    scores = Scores.load(result / "confusions.npz")
    has_instances = Counts.load(result / "counts.npz", scores.confusions).instances is not None
    predictions = kept(result / "predictions", scores.frames)
    if ground_truth is None:
        raise ValueError("dvc.yaml knows no gtFine_trainvaltest.zip: run `dvc repro` first")
    script = _script()
    say(f"the official script reads {len(predictions)} frames, about a tenth of a second each")
    with Archive(ground_truth) as archive, TemporaryDirectory() as name:
        labels = _unpacked(archive, scores.frames, Path(name), has_instances=has_instances)
        told, official = _timed(
            lambda: _scored(script, predictions, labels, has_instances=has_instances)
        )
        again, ours = _timed(lambda: _recounted(predictions, labels, has_instances=has_instances))
    rows = compared(told, again)
    table = "\n".join([scores.protocol, *map(_line, rows)])
    wrong = [row for row in rows if not row.is_equal]
    if wrong:
        raise ValueError(
            f"{table}\n{len(wrong)} of {len(rows)} scores differ from the official script's"
            f" (first: {wrong[0].kind} of {wrong[0].name}): a mistake of ours, please report it"
        )
    if again.confusion != scores.total.tolist():
        raise ValueError(
            f"{result}: the predictions kept are not those that were scored; evaluate again"
        )
    return (
        f"{table}\nequal to the official script in all {len(rows)} scores, to its last digit;"
        f" from the same PNGs it took {official:.1f} s, we {ours:.1f} s"
    )


@dataclass(frozen=True)
class Sums:
    """What was counted on all frames.

    Attributes:
        confusion: (19, 19).
        instances: (10, 2); None where none are annotated.
    """

    confusion: list[list[int]]
    instances: list[list[float]] | None


def compared(told: dict[str, Any], sums: Sums) -> list[Row]:
    """Pair what the script told with our scores, kind by kind, each with its mean.

    Where no instances are annotated, iIoU is left out: there the script says 0 and means nothing.
    """
    confusion = np.array(sums.confusion)
    ours: dict[str, tuple[Sequence[str], Any]] = {
        "class IoU": (CLASS_NAMES, class_iou(confusion)),
        "category IoU": (CATEGORIES, category_iou(confusion)),
    }
    if sums.instances is not None:
        names = [one.name for one in INSTANCE_CLASSES]
        weighted = np.array(sums.instances)
        ours["class iIoU"] = names, instance_iou(weighted, confusion)
        ours["category iIoU"] = INSTANCE_CATEGORIES, category_instance_iou(weighted, confusion)
    rows = []
    for kind, (chosen, values) in ours.items():
        of_each, of_all = _KINDS[kind]
        found = np.asarray(values, dtype=np.float64)
        known = found[~np.isnan(found)]
        mean = float(known.mean()) if known.size else math.nan
        rows += [
            Row(kind, name, float(told[of_each][name]), value)
            for name, value in zip(chosen, found.tolist(), strict=True)
        ]
        rows.append(Row(kind, "mean", float(told[of_all]), mean))
    return rows


def _recounted(predictions: Sequence[Path], labels: list[str], *, has_instances: bool) -> Sums:
    kind, mode = (INSTANCE_IDS, "I;16") if has_instances else (LABEL_IDS, "L")
    truths = [Path(path.replace(LABEL_IDS, kind)) for path in labels]
    confusion, instances = count_pngs(predictions, truths, mode=mode)
    return Sums(
        confusion[:, : len(CLASS_NAMES)].tolist(), instances.tolist() if has_instances else None
    )


def _timed(work: Callable[[], Result]) -> tuple[Result, float]:
    """A result, and seconds."""
    start = time.perf_counter()
    return work(), time.perf_counter() - start


def _script() -> ModuleType:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # not ours: what it imports has its own deprecations
            return importlib.import_module(_SCRIPT)
    except ModuleNotFoundError:
        raise ValueError(
            "the official script is not installed: pip install 'cityscapesscripts>=2.2.4'"
        ) from None


def _unpacked(
    archive: Archive, keys: Sequence[str], folder: Path, *, has_instances: bool
) -> list[str]:
    """Write the frames' labels where the script finds instances beside them: their paths."""
    kinds = [LABEL_IDS, INSTANCE_IDS] if has_instances else [LABEL_IDS]
    members = {kind: archive.members(kind) for kind in kinds}
    paths = {kind: [folder / f"{i}_{kind}.png" for i in range(len(keys))] for kind in kinds}
    for kind in kinds:
        for key, path in zip(keys, paths[kind], strict=True):
            if key not in members[kind]:
                raise ValueError(f"{archive.path}: {key} has no {kind} PNG; evaluate again")
            path.write_bytes(archive.read(members[kind][key].name))
    return [str(path) for path in paths[LABEL_IDS]]


def _scored(
    script: ModuleType, predictions: Sequence[Path], labels: list[str], *, has_instances: bool
) -> dict[str, Any]:
    settings = copy.copy(script.args)
    settings.quiet, settings.JSONOutput = True, False
    settings.evalInstLevelScore = has_instances
    try:
        with _old_numpy():
            told: dict[str, Any] = script.evaluateImgLists(
                [str(path) for path in predictions], labels, settings
            )
    except SystemExit:
        raise ValueError("the official script refused the pictures, see above") from None
    return told


@contextmanager
def _old_numpy() -> Iterator[None]:
    """NumPy 2.4 dropped `in1d`, which the script calls; `isin` is what replaced it."""
    known = vars(np)
    is_new = "in1d" not in known
    if is_new:
        known["in1d"] = np.isin
    try:
        yield
    finally:
        if is_new:
            del known["in1d"]


def _line(row: Row) -> str:
    mark = "" if row.is_equal else "  differs"
    numbers = f"{_printed(row.official):>6} {_printed(row.ours):>6}"
    return f"{row.kind:<14} {row.name:<14} {numbers}{mark}"


def _printed(score: float) -> str:
    return f"{score:.3f}"  # as the script does
