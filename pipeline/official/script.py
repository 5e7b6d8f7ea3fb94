"""Has the official Cityscapes script score kept predictions, and compares what it says with ours.

python -m pipeline evaluate --check-official data/evaluate/ce-0
"""

import copy
import importlib
import json
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any, TypeVar

import numpy as np

from pipeline.dataset.archive import LABEL_IDS, Archive
from pipeline.evaluation.counts import DatasetCounts
from pipeline.evaluation.frames import INSTANCE_IDS
from pipeline.evaluation.predictions import list_saved_paths
from pipeline.evaluation.scores import Scores
from pipeline.official.comparison import (
    ScoreRow,
    TotalCounts,
    compare_metrics,
    compare_scores,
    count_pngs,
)
from segformer.cityscapes import CLASS_NAMES

Result = TypeVar("Result")

_SCRIPT_MODULE = "cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling"


def compare_with_script(
    evaluation: Path, *, ground_truth: Path | None, notify: Callable[[str], None]
) -> str:
    """Compare class IoU, category IoU and iIoU of a result with the script's on its predictions.

    Compared is what the result's files say; the predictions are also counted anew, so that a
    mistake of ours can be told from files that do not belong together.

    Args:
        evaluation: a folder that the stage `evaluate` wrote, with predictions.
        ground_truth: the gtFine zip; None: there is none.
        notify: told what will take a while.

    Returns:
        A table of both, and a sentence.

    Raises:
        ValueError: if the script is not installed, predictions or labels are missing, the script
            refuses them, a score differs, or other predictions are kept than were scored.
    """
    scores = Scores.load(evaluation / "confusions.npz")
    instances = DatasetCounts.load(evaluation / "counts.npz", scores.confusions).instances
    has_instances = instances is not None
    held = TotalCounts(scores.total, None if instances is None else instances.sum(0))
    metrics = _read_metrics(evaluation / "metrics.json")
    predictions = list_saved_paths(evaluation / "predictions", scores.frames)
    if ground_truth is None:
        raise ValueError("dvc.yaml knows no gtFine_trainvaltest.zip: run `dvc repro` first")
    script = _import_script()
    notify(f"the official script reads {len(predictions)} frames, about a tenth of a second each")
    with Archive(ground_truth) as archive, TemporaryDirectory() as name:
        labels = _unpack_labels(archive, scores.frames, Path(name), has_instances=has_instances)
        told, official = _time_call(
            lambda: _run_script(script, predictions, labels, has_instances=has_instances)
        )
        again, ours = _time_call(lambda: _recount(predictions, labels, has_instances=has_instances))
    mistaken = [row for row in compare_scores(told, again) if not row.is_equal]
    if mistaken:
        raise ValueError(
            f"{len(mistaken)} scores of the predictions differ from the official script's, first"
            f" {' '.join(str(mistaken[0]).split())}: a mistake of ours, please report it"
        )
    rows = compare_scores(told, held)
    rows += compare_metrics(told, metrics, has_instances=has_instances)
    table = "\n".join([scores.protocol, *map(str, rows)])
    _check_equal(evaluation, rows, table)
    if not held.is_close(again):
        raise ValueError(
            f"{evaluation}: the predictions kept are not those that were scored; evaluate again"
        )
    return (
        f"{table}\nequal to the official script in all {len(rows)} scores, to its last digit;"
        f" from the same PNGs it took {official:.1f} s, we {ours:.1f} s"
    )


def _recount(predictions: Sequence[Path], labels: list[str], *, has_instances: bool) -> TotalCounts:
    kind, mode = (INSTANCE_IDS, "I;16") if has_instances else (LABEL_IDS, "L")
    truths = [Path(path.replace(LABEL_IDS, kind)) for path in labels]
    confusion, instances = count_pngs(predictions, truths, mode=mode)
    return TotalCounts(
        confusion[:, : len(CLASS_NAMES)].numpy(), instances.numpy() if has_instances else None
    )


def _read_metrics(path: Path) -> dict[str, Any]:
    try:
        metrics: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read ({error}): evaluate again") from None
    return metrics


def _check_equal(evaluation: Path, rows: Sequence[ScoreRow], table: str) -> None:
    wrong = [row for row in rows if not row.is_equal]
    if wrong:
        raise ValueError(
            f"{table}\n{evaluation}: {len(wrong)} of {len(rows)} scores differ from the official"
            f" script's on its predictions (first: {wrong[0].kind}, {wrong[0].name}). Its files do"
            " not belong together: evaluate again; if it stays so, please report it"
        )


def _time_call(work: Callable[[], Result]) -> tuple[Result, float]:
    """A result, and seconds."""
    start = time.perf_counter()
    return work(), time.perf_counter() - start


def _import_script() -> ModuleType:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # not ours: what it imports has its own deprecations
            return importlib.import_module(_SCRIPT_MODULE)
    except ModuleNotFoundError:
        raise ValueError(
            "the official script is not installed: pip install 'cityscapesscripts>=2.2.4'"
        ) from None


def _unpack_labels(
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


def _run_script(
    script: ModuleType, predictions: Sequence[Path], labels: list[str], *, has_instances: bool
) -> dict[str, Any]:
    settings = copy.copy(script.args)
    settings.quiet, settings.JSONOutput = True, False
    settings.evalInstLevelScore = has_instances
    try:
        with _restore_in1d():
            told: dict[str, Any] = script.evaluateImgLists(
                [str(path) for path in predictions], labels, settings
            )
    except SystemExit:
        raise ValueError("the official script refused the pictures, see above") from None
    return told


@contextmanager
def _restore_in1d() -> Iterator[None]:
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
