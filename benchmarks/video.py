"""Frames per second of `segformer predict` on a film, beside the network alone.

GOMP_SPINCOUNT=20000 python -m benchmarks.video --size 512 1024  # the variable as in pipeline.cli
"""

import argparse
import time
from fractions import Fraction
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import av
import numpy as np
import torch

from benchmarks.test_images import make_test_frames
from pipeline.serving.film import FilmOptions, predict_film
from pipeline.video.frames import FrameSource
from pipeline.video.overlap import PARTS, Timings
from pipeline.video.source import open_sources
from segformer.cityscapes import CLASS_NAMES
from segformer.device import best_device
from segformer.inference.predictor import Predictor
from segformer.inference.settings import InferenceSettings
from segformer.inference.trained_model import TrainedModel
from segformer.model.segformer import SegFormer


def main() -> None:
    """Print a row per turn, and the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, nargs=2, default=(512, 1024), help="rows and columns")
    parser.add_argument("--frames", type=int, default=48, help="of the film")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--variant", default="b0")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    network = SegFormer(arguments.variant).eval().to(best_device())
    model = TrainedModel("random", Predictor(network, InferenceSettings()), list(CLASS_NAMES))
    rows, columns = arguments.size
    print(f"{arguments.variant}, {arguments.frames} frames of {rows} x {columns}, H.264 in and out")
    print("Rates in frames/s; of the time and of the processor time, shares.")
    print("| | network alone | whole | ratio | processor | decode waits | network | write |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    with TemporaryDirectory() as folder:
        source = make_film(Path(folder) / "in.mp4", (rows, columns), arguments.frames)
        ratios = []
        for turn in range(1, arguments.repeats + 1):
            before = measure_network(model, source)
            start = time.process_time()
            timings = predict_film(model, source, Path(folder), FilmOptions()).timings
            processor = (time.process_time() - start) / timings.num_frames
            after = measure_network(model, source)
            alone = Rate(*(sum(pair) / 2 for pair in zip(before, after, strict=True)))
            ratios.append(timings.num_frames / timings.seconds / alone.frames_per_second)
            print(format_row(f"turn {turn}", alone, timings, alone.processor_seconds / processor))
    print(f"ratio, median of {len(ratios)} turns: {np.median(ratios):.3f}")


class Rate(NamedTuple):
    """The network's own rate, and its processor time per frame over all cores."""

    frames_per_second: float
    processor_seconds: float


def make_film(path: Path, size: tuple[int, int], num_frames: int) -> FrameSource:
    """Write a drawn frame that moves 4 pixels to the left from frame to frame, 25 frames/s."""
    image = make_test_frames(1, size).images[0]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        for k in range(num_frames):
            frame = av.VideoFrame.from_ndarray(np.roll(image, -4 * k, axis=1), format="rgb24")
            frame.pts, frame.time_base = k, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return open_sources(path)[0]


def measure_network(model: TrainedModel, source: FrameSource) -> Rate:
    """Measure the network alone, on the first half of the film, decoded beforehand."""
    images = [frame.image for frame in islice(source, (source.num_frames or 0) // 2)]
    start, processor_start = time.perf_counter(), time.process_time()
    for image in images:
        model.predictor.predict_classes(image)
    return Rate(
        len(images) / (time.perf_counter() - start),
        (time.process_time() - processor_start) / len(images),
    )


def format_row(name: str, alone: Rate, timings: Timings, processor_share: float) -> str:
    """Format a row: rates, their ratio, the network's share of the processor time, waiting."""
    whole = timings.num_frames / timings.seconds
    ratio = whole / alone.frames_per_second
    waiting = " | ".join(f"{timings.waiting_share(part):.0%}" for part in PARTS)
    return (
        f"| {name} | {alone.frames_per_second:.2f} | {whole:.2f} | {ratio:.3f} |"
        f" {processor_share:.0%} | {waiting} |"
    )


if __name__ == "__main__":
    main()
