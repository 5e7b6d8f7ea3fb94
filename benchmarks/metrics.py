"""Time our scores of frames against the official script: `python -m benchmarks.metrics`.

Both score the same synthetic streets of 1024 x 2048 pixels, some with few and some with many
instances. The script reads three PNGs of each frame. Ours reads two, as the instance ids include
the label ids; then it has the prediction in memory, as in an evaluation. Needs the `dev` extra.
Prints CPU milliseconds per frame and ratios, from the fastest repetition. In rows with `threads`
one process uses all cores, and the milliseconds are wall time.
"""

import argparse
import importlib
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pipeline.synthetic import draw_frame
from segformer.cityscapes import NUM_CLASSES, train_id_table
from segformer.inference.score_resizing import as_single_window, reduce_scores, resize_and_argmax
from segformer.metrics.boundary import boundary_counts
from segformer.metrics.calibration import calibration_counts
from segformer.metrics.confusion import category_iou, class_iou, confusion_matrix
from segformer.metrics.instances import category_instance_iou, count_instances, instance_iou
from segformer.metrics.run_lengths import count_label_ids

SIZE = (1024, 2048)
FILE_KINDS = ("predicted", "gtFine_labelIds", "gtFine_instanceIds")
Counts = tuple[Tensor, Tensor]


def make_official_scorer(folder: Path, number: int) -> Callable[[], dict[str, Any]]:
    """Return a function that scores the frames in `folder` by the official script."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script = importlib.import_module(
            "cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling"
        )
    vars(np).setdefault("in1d", np.isin)  # removed in NumPy 2.4, called by the script
    script.args.quiet, script.args.JSONOutput = True, False
    predicted, labels = (
        [str(folder / f"{i}_{kind}.png") for i in range(number)] for kind in FILE_KINDS[:2]
    )
    return lambda: dict(script.evaluateImgLists(predicted, labels, script.args))


def read_png(folder: Path, i: int, kind: str) -> NDArray[Any]:
    """Read one PNG of a frame."""
    return np.asarray(Image.open(folder / f"{i}_{kind}.png"))


def largest_difference(official_scores: dict[str, Any], counts: Sequence[Counts]) -> float:
    """Return the largest difference between our scores and those of the script."""
    confusion, instances = (sum(frame_counts[i] for frame_counts in counts) for i in range(2))
    assert isinstance(confusion, Tensor)
    assert isinstance(instances, Tensor)
    pairs = [
        ("averageScoreClasses", class_iou(confusion)),
        ("averageScoreCategories", category_iou(confusion)),
        ("averageScoreInstClasses", instance_iou(instances, confusion)),
        ("averageScoreInstCategories", category_instance_iou(instances, confusion)),
    ]
    return max(abs(float(official_scores[name]) - float(ours.nanmean())) for name, ours in pairs)


def fastest_ms(
    function: Callable[[], object], repeats: int, clock: Callable[[], float] = time.process_time
) -> float:
    """Return the milliseconds of the fastest of several calls, after a warm-up."""
    function()
    seconds = []
    for _ in range(repeats):
        start = clock()
        function()
        seconds.append(clock() - start)
    return 1000 * min(seconds)


def write_frames(folder: Path, number: int) -> list[int]:
    """Write frames for the script; each prediction is the label shifted by three pixels."""
    instances = []
    for i in range(number):
        street = draw_frame(np.random.default_rng(i), SIZE)
        shifted = np.roll(street.label_ids, 3, axis=1)
        arrays: list[NDArray[Any]] = [shifted, street.label_ids, street.instance_ids]
        for kind, array in zip(FILE_KINDS, arrays, strict=True):
            Image.fromarray(array).save(folder / f"{i}_{kind}.png")
        instances.append(len(np.unique(street.instance_ids[street.instance_ids >= 1000])))
    return instances


def compare_with_script(folder: Path, number: int, repeats: int) -> None:
    """Score the frames by each method, and print its time."""
    frames = range(number)
    predicted = [read_png(folder, i, FILE_KINDS[0]) for i in frames]
    instances = [read_png(folder, i, FILE_KINDS[2]) for i in frames]

    def from_pngs(i: int) -> Counts:
        return count_label_ids(
            read_png(folder, i, FILE_KINDS[0]), read_png(folder, i, FILE_KINDS[2])
        )

    def from_truth(i: int) -> Counts:
        return count_label_ids(predicted[i], read_png(folder, i, FILE_KINDS[2]))

    script = make_official_scorer(folder, number)
    official_scores = script()
    base = fastest_ms(script, repeats) / number
    print(f"{'official script, three PNGs':44} {base:7.1f} ms per frame")
    cores = len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(cores) as pool:
        methods: dict[str, Callable[[], Sequence[Counts]]] = {
            "ours, from PNGs": lambda: list(map(from_pngs, frames)),
            f"ours, from PNGs, {cores} threads": lambda: list(pool.map(from_pngs, frames)),
            "ours, prediction in memory": lambda: list(map(from_truth, frames)),
            f"ours, prediction in memory, {cores} threads": lambda: list(
                pool.map(from_truth, frames)
            ),
            "ours, all in memory": lambda: list(map(count_label_ids, predicted, instances)),
        }
        for label, method in methods.items():
            # Threads save wall time only, which depends on the load of the machine.
            clock = time.perf_counter if "threads" in label else time.process_time
            milliseconds = fastest_ms(method, repeats, clock) / number
            difference = largest_difference(official_scores, method())
            print(
                f"{label:44} {milliseconds:7.1f} ms {base / milliseconds:5.1f}x,"
                f" largest difference {difference:.0e}"
            )
    reading = fastest_ms(
        lambda: [read_png(folder, i, kind) for i in frames for kind in FILE_KINDS], repeats
    )
    print(f"{'reading all three PNGs':44} {reading / number:7.1f} ms")


def print_part_times(folder: Path, repeats: int) -> None:
    """Print the time of each count, and of the steps from scores to classes."""
    instances = read_png(folder, 0, FILE_KINDS[2])
    target = torch.from_numpy(train_id_table()[read_png(folder, 0, FILE_KINDS[1])])[None]
    predicted = torch.roll(target.where(target < NUM_CLASSES, 0), 3, dims=2)
    scores = torch.randn(NUM_CLASSES, SIZE[0] // 4, SIZE[1] // 4)
    prediction = reduce_scores([as_single_window(scores)], SIZE)
    resized = torch.nn.functional.interpolate(scores[None], SIZE, mode="bilinear")
    parts: dict[str, Callable[[], object]] = {
        "confusion": lambda: confusion_matrix(predicted, target, NUM_CLASSES),
        "instances": lambda: count_instances(predicted[0], instances),
        "boundaries": lambda: boundary_counts(predicted, target, NUM_CLASSES),
        "calibration": lambda: calibration_counts(prediction.confidence[None], predicted, target),
        "scores to classes": lambda: resize_and_argmax(scores, SIZE),
        "scores to classes and confidence": lambda: reduce_scores([as_single_window(scores)], SIZE),
        "all scores resized, then argmax": lambda: torch.nn.functional.interpolate(
            scores[None], SIZE, mode="bilinear"
        ).argmax(1),
        "softmax and maximum": lambda: resized.softmax(1).amax(1),
    }
    for label, function in parts.items():
        print(f"{label:44} {fastest_ms(function, repeats):7.1f} ms")


def main() -> None:
    """Draw frames, measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--frames", type=int, default=8)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        instances = write_frames(Path(name), arguments.frames)
        print(f"{arguments.frames} frames {SIZE[0]}x{SIZE[1]}, instances per frame: {instances}")
        compare_with_script(Path(name), arguments.frames, arguments.repeats)
        print_part_times(Path(name), arguments.repeats)


if __name__ == "__main__":
    main()
