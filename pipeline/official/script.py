"""Compare the scores of an evaluation with those of the official Cityscapes script.

python -m pipeline evaluate --check-official data/evaluate/ce-0
"""

import copy
import importlib
import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

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
    official_confusion,
)

_SCRIPT_MODULE = "cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling"


def compare_with_script(
    evaluation: Path, *, ground_truth: Path | None, notify: Callable[[str], None]
) -> str:
    """Compare class IoU, category IoU and iIoU of an evaluation with the official script's.

    The script scores the saved predictions. Its scores are compared with those in the files of the
    evaluation, and its confusion matrix with the saved one, pixel by pixel.

    Args:
        evaluation: a folder of the stage `evaluate`, with predictions.
        ground_truth: the gtFine zip; None if there is none.
        notify: called with a message before a long operation.

    Returns:
        A table of both scores, and a sentence.

    Raises:
        ValueError: if the script is not installed, predictions or labels are missing, the script
            rejects them, a score differs, or the saved predictions differ from the scored ones.
    """
    scores = Scores.load(evaluation / "confusions.npz")
    instances = DatasetCounts.load(evaluation / "counts.npz", scores.confusions).instances
    has_instances = instances is not None
    totals = TotalCounts(scores.total, None if instances is None else instances.sum(0))
    metrics = _read_metrics(evaluation / "metrics.json")
    predictions = list_saved_paths(evaluation / "predictions", scores.frames)
    if ground_truth is None:
        raise ValueError("gtFine_trainvaltest.zip is missing: run `dvc repro` first")
    script = _import_script()
    notify(f"the official script scores {len(predictions)} frames, about 0.1 s per frame")
    with Archive(ground_truth) as archive, TemporaryDirectory() as name:
        labels = _unpack_labels(archive, scores.frames, Path(name), has_instances=has_instances)
        results = _run_script(script, predictions, labels, has_instances=has_instances)
    rows = compare_scores(results, totals)
    rows += compare_metrics(results, metrics, has_instances=has_instances)
    table = "\n".join([scores.protocol, *map(str, rows)])
    _check_equal(evaluation, rows, table)
    if not np.array_equal(official_confusion(results), totals.confusion):
        raise ValueError(
            f"{evaluation}: the saved predictions differ from the scored ones; evaluate again"
        )
    return f"{table}\nequal to the official script in all {len(rows)} scores, to its last digit"


def _read_metrics(path: Path) -> dict[str, Any]:
    try:
        metrics: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read ({error}): evaluate again") from None
    return metrics


def _check_equal(evaluation: Path, rows: Sequence[ScoreRow], table: str) -> None:
    unequal = [row for row in rows if not row.is_equal]
    if unequal:
        raise ValueError(
            f"{table}\n{evaluation}: {len(unequal)} of {len(rows)} scores differ from the official"
            f" script's (first: {unequal[0].kind}, {unequal[0].name}); evaluate again, and if they"
            " still differ, please report a bug"
        )


def _import_script() -> ModuleType:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations in the modules that the script imports
            return importlib.import_module(_SCRIPT_MODULE)
    except ModuleNotFoundError:
        raise ValueError(
            "the official script is not installed: pip install 'cityscapesscripts>=2.2.4'"
        ) from None


def _unpack_labels(
    archive: Archive, keys: Sequence[str], folder: Path, *, has_instances: bool
) -> list[str]:
    """Write labels, and instances beside them as the script expects; return the label paths."""
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
            results: dict[str, Any] = script.evaluateImgLists(
                [str(path) for path in predictions], labels, settings
            )
    except SystemExit:
        raise ValueError(
            "the official script rejected the pictures, see its message above"
        ) from None
    return results


@contextmanager
def _restore_in1d() -> Iterator[None]:
    """Restore `np.in1d`, which the script calls and NumPy 2.4 removed in favor of `np.isin`."""
    attributes = vars(np)
    is_missing = "in1d" not in attributes
    if is_missing:
        attributes["in1d"] = np.isin
    try:
        yield
    finally:
        if is_missing:
            del attributes["in1d"]
