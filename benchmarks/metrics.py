"""Time our scores of a frame against the official script's: `python -m benchmarks.metrics`.

Both score the same drawn street of 1024 x 2048 pixels; the script reads three PNGs, we once the
same and once what lies in memory, as in an evaluation that has just predicted it. Needs the `dev`
extra. Prints milliseconds and ratios; the fastest of the turns counts, on one thread.
"""

import argparse
import importlib
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pipeline.synthetic import draw_frame
from segformer.boundary import boundary_counts
from segformer.calibration import calibration_counts, confidence
from segformer.cityscapes import NUM_CLASSES, train_id_table
from segformer.instances import UNSCORED, count_instances, from_label_ids
from segformer.metrics import confusion_matrix

SIZE = (1024, 2048)
NAMES = ("frame_predicted", "frame_gtFine_labelIds", "frame_gtFine_instanceIds")


def official(folder: Path) -> Callable[[], Any]:
    """A function that lets the official script score the frame in `folder`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script = importlib.import_module(
            "cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling"
        )
    vars(np).setdefault("in1d", np.isin)  # NumPy 2.4 dropped what the script calls
    script.args.quiet, script.args.JSONOutput = True, False
    predicted, labels = (str(folder / f"{name}.png") for name in NAMES[:2])
    return lambda: script.evaluateImgLists([predicted], [labels], script.args)


def read(folder: Path) -> list[NDArray[np.uint16]]:
    """The three pictures of the frame in `folder`."""
    return [np.asarray(Image.open(folder / f"{name}.png")) for name in NAMES]


def score(pictures: list[NDArray[np.uint16]]) -> tuple[Tensor, Tensor]:
    """Count everything that the official script counts."""
    predicted = from_label_ids(pictures[0])
    target = torch.from_numpy(np.take(train_id_table(), pictures[1]))
    return (
        confusion_matrix(predicted, target, NUM_CLASSES, unscored=UNSCORED),
        count_instances(predicted, pictures[2]),
    )


def fastest(function: Callable[[], object], repeats: int) -> float:
    """Milliseconds of the fastest of some calls after a first one."""
    function()
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        taken.append(time.perf_counter() - start)
    return 1000 * min(taken)


def main() -> None:
    """Draw a frame, measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    street = draw_frame(np.random.default_rng(0), SIZE)
    shifted = np.roll(street.label_ids, 3, axis=1)
    target = torch.from_numpy(train_id_table()[street.label_ids])[None]
    predicted = torch.roll(target.where(target < NUM_CLASSES, 0), 3, dims=2)
    scores = torch.randn(1, NUM_CLASSES, *SIZE)
    sure = confidence(scores)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        drawn: list[NDArray[Any]] = [shifted, street.label_ids, street.instance_ids]
        for kind, picture in zip(NAMES, drawn, strict=True):
            Image.fromarray(picture).save(folder / f"{kind}.png")
        pictures = read(folder)
        script = fastest(official(folder), repeats)
        singles = len(np.unique(street.instance_ids[street.instance_ids >= 1000]))
        print(f"one frame {SIZE[0]}x{SIZE[1]} with {singles} instances")
        print(f"official script, three PNGs to scores  {script:7.1f} ms")
        same: dict[str, Callable[[], object]] = {
            "reading the PNGs alone": lambda: read(folder),
            "ours, from the same PNGs": lambda: score(read(folder)),
            "ours, label ids in memory": lambda: score(pictures),
            "confusion of train ids": lambda: confusion_matrix(predicted, target, NUM_CLASSES),
            "instances": lambda: count_instances(predicted[0], street.instance_ids),
        }
        for what, function in same.items():
            ours = fastest(function, repeats)
            print(f"{what:38} {ours:7.1f} ms   {script / ours:5.1f} times as fast")
        extra: dict[str, Callable[[], object]] = {
            "boundary IoU": lambda: boundary_counts(predicted, target, NUM_CLASSES),
            "confidence": lambda: confidence(scores),
            "softmax and its maximum": lambda: scores.softmax(1).amax(1),
            "calibration": lambda: calibration_counts(sure, predicted, target),
        }
        for what, function in extra.items():
            print(f"{what:38} {fastest(function, repeats):7.1f} ms")


if __name__ == "__main__":
    main()
