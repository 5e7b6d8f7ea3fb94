"""Measure the synthetic streets: `python -m benchmarks.synthetic`.

Prints the speed of drawing single frames and a drive on one core, the frequency of each class
beside that of the real train split, and the mIoU of a baseline that ignores the image: the most
frequent class at each position. A trained network must be better than this baseline.
"""

import argparse
import time
from collections.abc import Iterable, Iterator
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.dataset.official_counts import OFFICIAL_PIXELS
from pipeline.parallel import ordered_map
from pipeline.synthetic.drive import Drive
from pipeline.synthetic.writing import draw_frame_number, encode_frame
from segformer.cityscapes import CLASSES, IGNORE, LABELS, NUM_CLASSES, train_id_table
from segformer.metrics.confusion import class_iou, confusion_matrix, mean_iou

Size = tuple[int, int]


def draw_label_ids(split: str, number: int, *, seed: int, size: Size) -> NDArray[np.uint8]:
    """Return the label ids of a frame of the demo, (h, w) uint8."""
    return draw_frame_number(split, number, seed=seed, size=size).label_ids


def guess_by_position(train_ids: Iterable[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Return the most frequent class at each position.

    Args:
        train_ids: (h, w) uint8 label maps of one size, train ids; void is not counted.

    Returns:
        (h, w) uint8 train ids; the most frequent class of all where no map has a class.
    """
    counts: NDArray[np.int32] | None = None
    for frame in train_ids:
        counts = np.zeros((NUM_CLASSES, *frame.shape), np.int32) if counts is None else counts
        for number in range(NUM_CLASSES):
            counts[number] += frame == number
    if counts is None:
        raise ValueError("guess_by_position: no label maps; give at least one")
    guess: NDArray[np.uint8] = counts.argmax(axis=0).astype(np.uint8)
    guess[counts.sum(axis=0) == 0] = counts.sum(axis=(1, 2)).argmax()
    return guess


def score_guess(guess: NDArray[np.uint8], train_ids: Iterable[NDArray[np.uint8]]) -> torch.Tensor:
    """Return the (k, k) int64 confusion matrix of a guess, (h, w), for label maps of its size."""
    total = torch.zeros((NUM_CLASSES, NUM_CLASSES), dtype=torch.int64)
    for frame in train_ids:
        total += confusion_matrix(
            torch.from_numpy(guess)[None], torch.from_numpy(frame)[None], NUM_CLASSES
        )
    return total


def measure_frames_per_second(size: Size, frames: int) -> tuple[float, float]:
    """Return frames per second of one core: drawn only, and drawn and encoded as four PNGs."""
    draw_frame_number("train", 0, seed=1, size=size)  # fills the cache of tiles
    drawing, encoding = [], []
    for number in range(frames):
        start = time.process_time()
        frame = draw_frame_number("train", number, seed=1, size=size)
        middle = time.process_time()
        encode_frame(frame, "train", number)
        drawing.append(middle - start)
        encoding.append(time.process_time() - middle)
    return frames / sum(drawing), frames / (sum(drawing) + sum(encoding))


def measure_drive_frames_per_second(size: Size, frames: int) -> float:
    """Return frames of a drive per second of one core, drawn only."""
    drive = Drive(0)
    drive.draw_frame(0, size)  # plans the first blocks
    start = time.process_time()
    for number in range(frames):
        drive.draw_frame(17 * number, size)
    return frames / (time.process_time() - start)


def draw_split(split: str, number: int, *, seed: int, size: Size) -> Iterator[NDArray[np.uint8]]:
    """Yield the label ids of the first frames of a split, drawn on all cores."""
    with ordered_map(partial(draw_label_ids, split, seed=seed, size=size), range(number)) as frames:
        yield from frames


def print_shares(counts: NDArray[np.int64]) -> None:
    """Print the share of each label id, from (34,) counts, beside the real one, in Markdown."""
    ours, real = counts / counts.sum(), np.array(OFFICIAL_PIXELS) / sum(OFFICIAL_PIXELS)
    print("| class | drawn, % | real, % | ratio |\n|---|---:|---:|---:|")
    for label in sorted(LABELS, key=lambda label: (label.train_id == IGNORE, label.label_id)):
        share, real_share = float(ours[label.label_id]), float(real[label.label_id])
        name = label.name if label.train_id != IGNORE else f"*{label.name}*"
        print(f"| {name} | {100 * share:.3f} | {100 * real_share:.3f} | {share / real_share:.2f} |")


def main() -> None:
    """Draw, count, guess and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", type=int, default=96, help="frames to compute the guess from")
    parser.add_argument("--val", type=int, default=32, help="frames to score it on")
    parser.add_argument("--size", type=int, nargs=2, default=(256, 512), help="rows, columns")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shares", type=int, default=300, help="frames to count; 0 for none")
    parser.add_argument("--timed", type=int, default=12, help="frames to time; 0 for none")
    arguments = parser.parse_args()
    size = (arguments.size[0], arguments.size[1])
    for timed in (size, (1024, 2048)) if arguments.timed else ():
        frames = arguments.timed if timed == size else max(1, arguments.timed // 4)
        drawn, encoded = measure_frames_per_second(timed, frames)
        print(
            f"{timed[0]}x{timed[1]}: {drawn:.1f} frames/s per core, {encoded:.1f} with PNG"
            f" encoding, {measure_drive_frames_per_second(timed, frames):.1f} of a drive"
        )
    table = train_id_table()
    train, val = (
        [table[ids] for ids in draw_split(split, number, seed=arguments.seed, size=size)]
        for split, number in (("train", arguments.train), ("val", arguments.val))
    )
    confusion = score_guess(guess_by_position(train), val)
    print(
        f"most frequent class at each position: mIoU {100 * float(mean_iou(confusion)):.2f} %"
        f" on {arguments.val} val frames of {size[0]}x{size[1]}; computed from {arguments.train}"
    )
    for label, iou in zip(CLASSES, class_iou(confusion).tolist(), strict=True):
        print(f"  {label.name:14} {100 * iou:6.2f} %")
    if arguments.shares:
        ids = draw_split("train", arguments.shares, seed=arguments.seed, size=size)
        print_shares(sum((np.bincount(f.ravel(), minlength=34) for f in ids), np.zeros(34, int)))


if __name__ == "__main__":
    main()
