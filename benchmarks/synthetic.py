"""Measure the drawn streets: `python -m benchmarks.synthetic`.

Prints how fast they are drawn on one core, how often each class occurs beside the real train
split, and what mIoU a guesser reaches that never looks at the picture: at each pixel it says the
class met most often there. A network that has learnt anything must be better than that guesser.
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
from pipeline.synthetic.writing import draw_frame_number, encode_frame
from segformer.cityscapes import CLASSES, IGNORE, LABELS, NUM_CLASSES, train_id_table
from segformer.metrics.confusion import class_iou, confusion_matrix, mean_iou

Size = tuple[int, int]


def draw_label_ids(split: str, number: int, *, seed: int, size: Size) -> NDArray[np.uint8]:
    """(h, w) uint8: the label ids of the frame that the demo draws under this number."""
    return draw_frame_number(split, number, seed=seed, size=size).label_ids


def guess_by_position(train_ids: Iterable[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Find the class met most often at each pixel.

    Args:
        train_ids: (h, w) uint8 label maps of one size, train ids; void counts for nothing.

    Returns:
        (h, w) uint8 train ids; where no map has a class, the one met most often of all.
    """
    counts: NDArray[np.int32] | None = None
    for frame in train_ids:
        counts = np.zeros((NUM_CLASSES, *frame.shape), np.int32) if counts is None else counts
        for number in range(NUM_CLASSES):
            counts[number] += frame == number
    if counts is None:
        raise ValueError("guess_by_position: no label map given; give at least one")
    guess: NDArray[np.uint8] = counts.argmax(axis=0).astype(np.uint8)
    guess[counts.sum(axis=0) == 0] = counts.sum(axis=(1, 2)).argmax()
    return guess


def score_guess(guess: NDArray[np.uint8], train_ids: Iterable[NDArray[np.uint8]]) -> torch.Tensor:
    """(k, k) int64: the same guess, (h, w), scored on every one of some label maps of its size."""
    total = torch.zeros((NUM_CLASSES, NUM_CLASSES), dtype=torch.int64)
    for frame in train_ids:
        total += confusion_matrix(
            torch.from_numpy(guess)[None], torch.from_numpy(frame)[None], NUM_CLASSES
        )
    return total


def measure_frames_per_second(size: Size, frames: int) -> tuple[float, float]:
    """Frames per second of one core, drawn only, and drawn and encoded as the four PNGs."""
    draw_frame_number("train", 0, seed=1, size=size)  # The first one fills the tiles.
    drawing, encoding = [], []
    for number in range(frames):
        start = time.process_time()
        frame = draw_frame_number("train", number, seed=1, size=size)
        middle = time.process_time()
        encode_frame(frame, "train", number)
        drawing.append(middle - start)
        encoding.append(time.process_time() - middle)
    return frames / sum(drawing), frames / (sum(drawing) + sum(encoding))


def draw_split(split: str, number: int, *, seed: int, size: Size) -> Iterator[NDArray[np.uint8]]:
    """The label ids of the first frames of a split, drawn on all cores."""
    with ordered_map(partial(draw_label_ids, split, seed=seed, size=size), range(number)) as frames:
        yield from frames


def print_shares(counts: NDArray[np.int64]) -> None:
    """Print the share of each label id, (34,) counts, as a Markdown table beside the real one."""
    ours, real = counts / counts.sum(), np.array(OFFICIAL_PIXELS) / sum(OFFICIAL_PIXELS)
    print("| class | drawn, % | real, % | ratio |\n|---|---:|---:|---:|")
    for label in sorted(LABELS, key=lambda label: (label.train_id == IGNORE, label.label_id)):
        share, wanted = float(ours[label.label_id]), float(real[label.label_id])
        name = label.name if label.train_id != IGNORE else f"*{label.name}*"
        print(f"| {name} | {100 * share:.3f} | {100 * wanted:.3f} | {share / wanted:.2f} |")


def main() -> None:
    """Draw, count, guess and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", type=int, default=96, help="frames to learn the guess from")
    parser.add_argument("--val", type=int, default=32, help="frames to score it on")
    parser.add_argument("--size", type=int, nargs=2, default=(256, 512), help="rows, columns")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shares", type=int, default=300, help="frames to count; 0 for none")
    parser.add_argument("--timed", type=int, default=12, help="frames to time; 0 for none")
    asked = parser.parse_args()
    size = (asked.size[0], asked.size[1])
    for timed in (size, (1024, 2048)) if asked.timed else ():
        frames = asked.timed if timed == size else max(1, asked.timed // 4)
        alone, encoded = measure_frames_per_second(timed, frames)
        print(f"{timed[0]}x{timed[1]}: {alone:.1f} frames/s per core, {encoded:.1f} with the PNGs")
    table = train_id_table()
    train, val = (
        [table[ids] for ids in draw_split(split, number, seed=asked.seed, size=size)]
        for split, number in (("train", asked.train), ("val", asked.val))
    )
    confusion = score_guess(guess_by_position(train), val)
    print(
        f"most frequent class at each position: mIoU {100 * float(mean_iou(confusion)):.2f} %"
        f" on {asked.val} val frames of {size[0]}x{size[1]}, learnt from {asked.train}"
    )
    for label, iou in zip(CLASSES, class_iou(confusion).tolist(), strict=True):
        print(f"  {label.name:14} {100 * iou:6.2f} %")
    if asked.shares:
        ids = draw_split("train", asked.shares, seed=asked.seed, size=size)
        print_shares(sum((np.bincount(f.ravel(), minlength=34) for f in ids), np.zeros(34, int)))


if __name__ == "__main__":
    main()
