"""Images per second of a training, ours against a plain one: `python -m benchmarks.training`.

Ours is `fit()` on packed frames. The plain loop is transformers' SegFormer with its own loss, with
a DataLoader that decodes PNGs of the same test frames; it has no color jitter, ours has. Both run
in turns. `step` repeats one batch that is ready; `whole loop` includes making the batches.
`--profile` prints the profile of our step instead. This needs torch, NumPy and Pillow only; the
comparison needs transformers.
"""

import argparse
import importlib.util
import itertools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Protocol

import torch

from benchmarks.arithmetic import count_flops, measure_peak_flops, synchronize
from benchmarks.measure import WaitTimer, median_seconds
from benchmarks.pipeline_training import PipelineTraining, TrainingSetup, make_single_pass
from benchmarks.profile import annotate_loss, profile_step
from benchmarks.test_images import make_test_frames, write_pngs
from segformer.data.packed_frames import PackedFrames
from segformer.device import Compile, best_device, set_deterministic
from segformer.model.variants import VARIANTS
from segformer.training.loop import Batch

ENVIRONMENT = {"GOMP_SPINCOUNT": "20000", "KINETO_LOG_LEVEL": "99"}
"""Threads that spin only briefly, as in pipeline/cli/app.py, and a silent profiler."""

COMPILE: dict[str, Compile] = {"auto": "auto", "yes": True, "no": False}


class Training(Protocol):
    """A training that is continued by each call."""

    def stream(self) -> Generator[Batch, None, None]:
        """Yield batches on the device, without end."""

    def train(self, batches: Iterator[Batch], steps: int) -> float:
        """Make `steps` updates and return a loss, which waits for the device."""


class TimedTraining:
    """A training and its measured times.

    Attributes:
        step: seconds of the steps of each turn, with a batch that is ready.
        loop: seconds of as many steps of the whole loop.
        waits: seconds of the loop in which the device waited for batches.
        memory: peak bytes of the training on the GPU, frames included; 0 on a CPU.
    """

    def __init__(self, make: Callable[[], Training], device: torch.device) -> None:
        self._device, is_gpu = device, device.type == "cuda"
        before = torch.cuda.memory_allocated() if is_gpu else 0
        self._training = make()
        with closing(self._training.stream()) as stream:
            self._batch = next(stream)
            self._training.train(stream, 2)  # compiles, and selects algorithms
        if is_gpu:
            torch.cuda.reset_peak_memory_stats()
        self._training.train(itertools.repeat(self._batch), 2)
        self.memory = torch.cuda.max_memory_allocated() - before if is_gpu else 0
        self.step: list[float] = []
        self.loop: list[float] = []
        self.waits: list[float] = []

    def time_steps(self, steps: int) -> None:
        """Time `steps` steps with the same batch."""
        self.step.append(self._seconds(itertools.repeat(self._batch), steps))

    def time_loop(self, steps: int) -> None:
        """Time `steps` steps of the whole loop."""
        waits = WaitTimer(self._device)
        with closing(self._training.stream()) as stream:
            self._training.train(stream, 1)  # starts the workers that read and decode
            self.loop.append(self._seconds(waits.wrap(stream), steps))
        self.waits.append(waits.seconds())

    def _seconds(self, batches: Iterator[Batch], steps: int) -> float:
        start = time.perf_counter()
        self._training.train(batches, steps)
        return time.perf_counter() - start


def make_reference_training(
    frames: PackedFrames, folder: Path, setup: TrainingSetup, workers: int
) -> Callable[[], Training]:
    """Return a function that creates the plain loop, which reads PNGs in `folder`."""
    from benchmarks.reference_training import PngFrames, ReferenceTraining

    files = PngFrames(write_pngs(frames, folder), setup.crop)
    kilobytes = statistics.mean(pair[0].stat().st_size for pair in files.files) / 1e3
    print(f"PNGs of {kilobytes:.0f} kB, decoded by {workers} processes")
    return lambda: ReferenceTraining(
        setup.variant,
        files,
        batch_size=setup.batch_size,
        workers=workers,
        device=setup.device,
        autocast=setup.autocast,
    )


def compare(arguments: argparse.Namespace, setup: TrainingSetup) -> None:
    """Print images per second, and ratios if transformers is installed."""
    frames = make_test_frames(arguments.frames, tuple(arguments.frame_size))
    with tempfile.TemporaryDirectory() as folder:
        makers: dict[str, Callable[[], Training]] = {}
        if importlib.util.find_spec("transformers") is None:
            print("transformers is not installed: no comparison with the plain loop")
        else:
            makers["plain"] = make_reference_training(
                frames, Path(folder), setup, arguments.workers
            )
        makers["ours"] = lambda: PipelineTraining(frames, setup)
        trainings = {name: TimedTraining(make, setup.device) for name, make in makers.items()}
        rates = []
        for _ in range(arguments.turns):
            rates.append(measure_peak_flops(setup.device, setup.autocast or torch.float32))
            for training in trainings.values():
                training.time_steps(arguments.steps)
            for training in trainings.values():
                training.time_loop(arguments.steps)
    print_speeds(trainings, setup.batch_size * arguments.steps)
    flops = count_flops(make_single_pass(setup))
    print(f"{flops / 1e9:.0f} GFLOP per image, forward and backward")
    print_arithmetic(trainings["ours"], flops * setup.batch_size * arguments.steps, max(rates))


def print_speeds(trainings: dict[str, TimedTraining], images: int) -> None:
    """Print rows for the step, the loop, waiting and memory; `images` is those of a turn."""
    print(f"{'':24}" + "".join(f"{name:>16}" for name in trainings))
    for name in ("step", "loop"):
        times = [statistics.median(getattr(training, name)) for training in trainings.values()]
        row = "".join(f"{images / seconds:8.2f} images/s" for seconds in times)
        ratio = f"{times[0] / times[1]:8.2f}x" if len(times) > 1 else ""
        print(f"{'whole loop' if name == 'loop' else name:24}{row}{ratio}")
    shares = [sum(training.waits) / sum(training.loop) for training in trainings.values()]
    print(f"{'waiting for batches':24}" + "".join(f"{share:16.2%}" for share in shares))
    if any(training.memory for training in trainings.values()):
        row = "".join(f"{training.memory / 2**30:12.2f} GiB" for training in trainings.values())
        print(f"{'peak memory':24}{row}")


def print_arithmetic(ours: TimedTraining, flops: int, peak: float) -> None:
    """Print the arithmetic rate of our training, as a share of the device's peak.

    Args:
        ours: our training.
        flops: floating-point operations per turn.
        peak: largest number of floating-point operations per second of the device.
    """
    print(f"ours, as a share of {peak / 1e12:.3g} TFLOP/s in products of large matrices:")
    for name, times in (("step", ours.step), ("whole loop", ours.loop)):
        rate = flops / statistics.median(times)
        print(f"{name:24}{rate / 1e12:9.3g} TFLOP/s{rate / peak:8.1%}")


def print_profile(arguments: argparse.Namespace, setup: TrainingSetup) -> None:
    """Print the milliseconds of one step of ours by kind of operation, and of making a batch."""
    frames = make_test_frames(arguments.frames, tuple(arguments.frame_size))
    training = PipelineTraining(frames, setup)
    training.wrap_loss(annotate_loss)
    with closing(training.stream()) as stream:
        batch = next(stream)
        start = time.perf_counter()
        batches = [next(stream) for _ in range(arguments.steps)]
        synchronize(setup.device)
        making = 1e3 * (time.perf_counter() - start) / len(batches)
    same_batch = itertools.repeat(batch)
    training.train(same_batch, 2)
    (seconds,) = median_seconds([lambda: training.train(same_batch, 1)], arguments.steps)
    print(f"a step takes {1e3 * seconds:.0f} ms; profiled:")
    times = profile_step(lambda: training.train(same_batch, 1), setup.device)
    for kind, milliseconds in times.items():
        print(f"{kind:28}{milliseconds:9.1f} ms{milliseconds / sum(times.values()):8.1%}")
    print(f"{'making a batch, in parallel':28}{making:9.1f} ms")


def main() -> None:
    """Read the command line, and compare or profile."""
    if not ENVIRONMENT.keys() <= os.environ.keys():  # read when torch is loaded: restart
        command = [sys.executable, "-m", "benchmarks.training", *sys.argv[1:]]
        os.execve(sys.executable, command, ENVIRONMENT | os.environ)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variant", choices=VARIANTS, default="b0")
    parser.add_argument(
        "--size", nargs=2, type=int, default=[512, 1024], help="rows and columns of a crop"
    )
    parser.add_argument(
        "--frame-size", nargs=2, type=int, help="rows and columns; default: twice those of the crop"
    )
    parser.add_argument("--frames", type=int, default=16, help="number of test frames")
    parser.add_argument("--batch", type=int, help="frames per batch; default: 2, on a GPU 8")
    parser.add_argument("--steps", type=int, help="steps per turn; default: 4, on a GPU 50")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--device", choices=["cpu", "cuda"], default=best_device().type)
    parser.add_argument("--precision", choices=["auto", "float32", "bfloat16"], default="auto")
    parser.add_argument("--compile", choices=COMPILE, default="auto", help="auto: on a GPU")
    parser.add_argument("--residency", choices=["auto", "device", "host"], default="auto")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--workers", type=int, default=min(8, os.cpu_count() or 1))
    parser.add_argument("--profile", action="store_true", help="print the profile of our step")
    arguments = parser.parse_args()
    is_gpu = arguments.device != "cpu"
    arguments.batch = arguments.batch or (8 if is_gpu else 2)
    arguments.steps = arguments.steps or (50 if is_gpu else 4)
    arguments.frame_size = arguments.frame_size or [2 * side for side in arguments.size]
    setup = TrainingSetup(
        variant=arguments.variant,
        crop=tuple(arguments.size),
        batch_size=arguments.batch,
        device=torch.device(arguments.device),
        precision=arguments.precision,
        compile=COMPILE["no" if arguments.profile else arguments.compile],
        residency=arguments.residency,
    )
    torch.set_num_threads(arguments.threads)
    set_deterministic(False)  # the default of the pipeline
    print(
        f"torch {torch.__version__}, {describe_device(arguments)}; "
        f"{setup.variant}, batch {setup.batch_size}"
    )
    print(f"crops of {arguments.size} from frames of {arguments.frame_size}")
    (print_profile if arguments.profile else compare)(arguments, setup)


def describe_device(arguments: argparse.Namespace) -> str:
    """Return a description of the device."""
    if arguments.device == "cpu":
        return f"CPU, {arguments.threads} threads"
    return f"{torch.cuda.get_device_name()}, {os.cpu_count()} processors"


if __name__ == "__main__":
    main()
