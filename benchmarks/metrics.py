"""Time our scores of frames against the official script's: `python -m benchmarks.metrics`.

Both score the same drawn streets of 1024 x 2048 pixels, some with few and some with many instances.
The script reads three PNGs of each. So do we, but for the label ids, which instance ids hold too;
then with the prediction in memory, as in an evaluation that has just made it. Needs the `dev`
extra. Prints milliseconds of the processor a frame and ratios; the fastest of the turns counts.
With `threads` one process has all its cores, and milliseconds are the wall's.
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
    """A function that lets the official script score the frames in `folder`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script = importlib.import_module(
            "cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling"
        )
    vars(np).setdefault("in1d", np.isin)  # NumPy 2.4 dropped what the script calls
    script.args.quiet, script.args.JSONOutput = True, False
    predicted, labels = (
        [str(folder / f"{i}_{kind}.png") for i in range(number)] for kind in FILE_KINDS[:2]
    )
    return lambda: dict(script.evaluateImgLists(predicted, labels, script.args))


def read_png(folder: Path, i: int, kind: str) -> NDArray[Any]:
    """One picture of a frame."""
    return np.asarray(Image.open(folder / f"{i}_{kind}.png"))


def largest_difference(official_scores: dict[str, Any], counts: Sequence[Counts]) -> float:
    """Of our scores to the script's."""
    confusion, instances = (sum(one[i] for one in counts) for i in range(2))
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
    """Milliseconds of the fastest of some calls after a first one."""
    function()
    taken = []
    for _ in range(repeats):
        start = clock()
        function()
        taken.append(clock() - start)
    return 1000 * min(taken)


def write_frames(folder: Path, number: int) -> list[int]:
    """Write frames as the script reads them, each predicted as itself three pixels aside."""
    instances = []
    for i in range(number):
        street = draw_frame(np.random.default_rng(i), SIZE)
        shifted = np.roll(street.label_ids, 3, axis=1)
        drawn: list[NDArray[Any]] = [shifted, street.label_ids, street.instance_ids]
        for kind, picture in zip(FILE_KINDS, drawn, strict=True):
            Image.fromarray(picture).save(folder / f"{i}_{kind}.png")
        instances.append(len(np.unique(street.instance_ids[street.instance_ids >= 1000])))
    return instances


def compare_with_script(folder: Path, number: int, repeats: int) -> None:
    """Score the frames in many ways, and print what each takes."""
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
    told, base = script(), fastest_ms(script, repeats) / number
    print(f"{'official script, three PNGs':44} {base:7.1f} ms a frame")
    cores = len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(cores) as pool:
        ways: dict[str, Callable[[], Sequence[Counts]]] = {
            "ours, from PNGs": lambda: list(map(from_pngs, frames)),
            f"ours, from PNGs, {cores} threads": lambda: list(pool.map(from_pngs, frames)),
            "ours, prediction in memory": lambda: list(map(from_truth, frames)),
            f"ours, prediction in memory, {cores} threads": lambda: list(
                pool.map(from_truth, frames)
            ),
            "ours, all in memory": lambda: list(map(count_label_ids, predicted, instances)),
        }
        for what, way in ways.items():
            # What threads gain is only seen on the wall's clock, which a busy machine puts off.
            clock = time.perf_counter if "threads" in what else time.process_time
            taken = fastest_ms(way, repeats, clock) / number
            same = largest_difference(told, way())
            print(f"{what:44} {taken:7.1f} ms {base / taken:5.1f} times as fast, within {same:.0e}")
    alone = fastest_ms(
        lambda: [read_png(folder, i, kind) for i in frames for kind in FILE_KINDS], repeats
    )
    print(f"{'reading all three PNGs':44} {alone / number:7.1f} ms")


def print_part_times(folder: Path, repeats: int) -> None:
    """Print what each thing counted takes, and the way from scores to it."""
    instances = read_png(folder, 0, FILE_KINDS[2])
    target = torch.from_numpy(train_id_table()[read_png(folder, 0, FILE_KINDS[1])])[None]
    predicted = torch.roll(target.where(target < NUM_CLASSES, 0), 3, dims=2)
    scores = torch.randn(NUM_CLASSES, SIZE[0] // 4, SIZE[1] // 4)
    seen = reduce_scores([as_single_window(scores)], SIZE)
    resized = torch.nn.functional.interpolate(scores[None], SIZE, mode="bilinear")
    ways: dict[str, Callable[[], object]] = {
        "confusion": lambda: confusion_matrix(predicted, target, NUM_CLASSES),
        "instances": lambda: count_instances(predicted[0], instances),
        "boundaries": lambda: boundary_counts(predicted, target, NUM_CLASSES),
        "calibration": lambda: calibration_counts(seen.confidence[None], predicted, target),
        "scores to classes": lambda: resize_and_argmax(scores, SIZE),
        "scores to classes and confidence": lambda: reduce_scores([as_single_window(scores)], SIZE),
        "all scores resized, then argmax": lambda: torch.nn.functional.interpolate(
            scores[None], SIZE, mode="bilinear"
        ).argmax(1),
        "softmax and its maximum": lambda: resized.softmax(1).amax(1),
    }
    for what, function in ways.items():
        print(f"{what:44} {fastest_ms(function, repeats):7.1f} ms")


def main() -> None:
    """Draw frames, measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--frames", type=int, default=8)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        instances = write_frames(Path(name), chosen.frames)
        print(f"{chosen.frames} frames {SIZE[0]}x{SIZE[1]}, instances in each: {instances}")
        compare_with_script(Path(name), chosen.frames, chosen.repeats)
        print_part_times(Path(name), chosen.repeats)


if __name__ == "__main__":
    main()
