"""Images per second of a training, ours against a plain one: `python -m benchmarks.training`.

Ours is `fit()` on packed frames. The plain loop is transformers' SegFormer with its own loss, fed
by a DataLoader that decodes PNGs of the same frames, which are drawn here; it changes no colors,
ours does. Both take turns. A step is what a batch costs that is there already; the whole loop makes
its batches as well. `--profile` says where the time of our step goes instead. This runs with torch,
NumPy and Pillow alone; to compare, transformers is needed.
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
"""Threads that wait without spinning for long, as pipeline/cli/app.py sets it; a silent profiler."""

COMPILE: dict[str, Compile] = {"auto": "auto", "yes": True, "no": False}


class Training(Protocol):
    """A training that can go on for some steps."""

    def stream(self) -> Generator[Batch, None, None]:
        """Give batches on the device, without end."""

    def train(self, batches: Iterator[Batch], steps: int) -> float:
        """Make so many updates and return a loss, which waits for the device."""


class TimedTraining:
    """A training, and what its turns took.

    Attributes:
        step: seconds of the steps of each turn, with a batch that was there.
        loop: seconds of as many steps of the whole loop.
        waits: seconds of the loop for which the device waited for batches.
        memory: bytes that the training took on the GPU at its peak, frames included; 0 on a CPU.
    """

    def __init__(self, make: Callable[[], Training], device: torch.device) -> None:
        self._device, is_gpu = device, device.type == "cuda"
        before = torch.cuda.memory_allocated() if is_gpu else 0
        self._training = make()
        with closing(self._training.stream()) as stream:
            self._batch = next(stream)
            self._training.train(stream, 2)  # compiles, and chooses algorithms
        if is_gpu:
            torch.cuda.reset_peak_memory_stats()
        self._training.train(itertools.repeat(self._batch), 2)
        self.memory = torch.cuda.max_memory_allocated() - before if is_gpu else 0
        self.step: list[float] = []
        self.loop: list[float] = []
        self.waits: list[float] = []

    def time_steps(self, steps: int) -> None:
        """Time so many steps with the same batch."""
        self.step.append(self._seconds(itertools.repeat(self._batch), steps))

    def time_loop(self, steps: int) -> None:
        """Time so many steps of the whole loop."""
        waits = WaitTimer(self._device)
        with closing(self._training.stream()) as stream:
            self._training.train(stream, 1)  # so that what reads and decodes is under way
            self.loop.append(self._seconds(waits.wrap(stream), steps))
        self.waits.append(waits.seconds())

    def _seconds(self, batches: Iterator[Batch], steps: int) -> float:
        start = time.perf_counter()
        self._training.train(batches, steps)
        return time.perf_counter() - start


def make_reference_training(
    frames: PackedFrames, folder: Path, setting: TrainingSetup, workers: int
) -> Callable[[], Training]:
    """What makes the plain loop, which reads PNGs in `folder`."""
    from benchmarks.reference_training import PngFrames, ReferenceTraining

    files = PngFrames(write_pngs(frames, folder), setting.crop)
    kilobytes = statistics.mean(pair[0].stat().st_size for pair in files.files) / 1e3
    print(f"PNGs of {kilobytes:.0f} kB, decoded by {workers} processes")
    return lambda: ReferenceTraining(
        setting.variant,
        files,
        batch_size=setting.batch_size,
        workers=workers,
        device=setting.device,
        autocast=setting.autocast,
    )


def compare(arguments: argparse.Namespace, setting: TrainingSetup) -> None:
    """Print images per second, and ratios where there is something to compare with."""
    frames = make_test_frames(arguments.frames, tuple(arguments.frame_size))
    with tempfile.TemporaryDirectory() as folder:
        makers: dict[str, Callable[[], Training]] = {}
        if importlib.util.find_spec("transformers") is None:
            print("transformers is not installed: there is nothing to compare with")
        else:
            makers["plain"] = make_reference_training(
                frames, Path(folder), setting, arguments.workers
            )
        makers["ours"] = lambda: PipelineTraining(frames, setting)
        trainings = {name: TimedTraining(make, setting.device) for name, make in makers.items()}
        rates = []
        for _ in range(arguments.turns):
            rates.append(measure_peak_flops(setting.device, setting.autocast or torch.float32))
            for training in trainings.values():
                training.time_steps(arguments.steps)
            for training in trainings.values():
                training.time_loop(arguments.steps)
    print_speeds(trainings, setting.batch_size * arguments.steps)
    work = count_flops(make_single_pass(setting))
    print(f"an image is {work / 1e9:.0f} GFLOP forward and backward")
    print_arithmetic(trainings["ours"], work * setting.batch_size * arguments.steps, max(rates))


def print_speeds(trainings: dict[str, TimedTraining], images: int) -> None:
    """Print a row each for the step, the loop and what the device needs; `images` in a turn."""
    print(f"{'':24}" + "".join(f"{name:>16}" for name in trainings))
    for what in ("step", "loop"):
        times = [statistics.median(getattr(one, what)) for one in trainings.values()]
        row = "".join(f"{images / seconds:9.2f} image/s" for seconds in times)
        ratio = f"{times[0] / times[1]:8.2f}x" if len(times) > 1 else ""
        print(f"{'whole loop' if what == 'loop' else what:24}{row}{ratio}")
    shares = [sum(one.waits) / sum(one.loop) for one in trainings.values()]
    print(f"{'waiting for batches':24}" + "".join(f"{share:16.2%}" for share in shares))
    if any(one.memory for one in trainings.values()):
        row = "".join(f"{one.memory / 2**30:12.2f} GiB" for one in trainings.values())
        print(f"{'peak memory':24}{row}")


def print_arithmetic(ours: TimedTraining, work: int, peak: float) -> None:
    """Print how near our training comes to what the device can do.

    Args:
        ours: our training.
        work: floating-point operations in a turn.
        peak: those that the device does in a second, at best.
    """
    print(f"ours, of {peak / 1e12:.3g} TFLOP/s in products of large matrices:")
    for name, times in (("step", ours.step), ("whole loop", ours.loop)):
        rate = work / statistics.median(times)
        print(f"{name:24}{rate / 1e12:9.3g} TFLOP/s{rate / peak:8.1%}")


def print_profile(arguments: argparse.Namespace, setting: TrainingSetup) -> None:
    """Print the milliseconds of one step of ours by kind of work, and of making a batch."""
    frames = make_test_frames(arguments.frames, tuple(arguments.frame_size))
    training = PipelineTraining(frames, setting)
    training.wrap_loss(annotate_loss)
    with closing(training.stream()) as stream:
        batch = next(stream)
        start = time.perf_counter()
        batches = [next(stream) for _ in range(arguments.steps)]
        synchronize(setting.device)
        making = 1e3 * (time.perf_counter() - start) / len(batches)
    again = itertools.repeat(batch)
    training.train(again, 2)
    (seconds,) = median_seconds([lambda: training.train(again, 1)], arguments.steps)
    print(f"a step takes {1e3 * seconds:.0f} ms; profiled:")
    times = profile_step(lambda: training.train(again, 1), setting.device)
    for kind, milliseconds in times.items():
        print(f"{kind:28}{milliseconds:9.1f} ms{milliseconds / sum(times.values()):8.1%}")
    print(f"{'making a batch, beside it':28}{making:9.1f} ms")


def main() -> None:
    """Read the command line, and compare or profile."""
    if not ENVIRONMENT.keys() <= os.environ.keys():  # read when torch is loaded: once more
        command = [sys.executable, "-m", "benchmarks.training", *sys.argv[1:]]
        os.execve(sys.executable, command, ENVIRONMENT | os.environ)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variant", choices=VARIANTS, default="b0")
    parser.add_argument("--size", nargs=2, type=int, default=[512, 1024], help="of a crop")
    parser.add_argument("--frame-size", nargs=2, type=int, help="rows columns; twice the crop's")
    parser.add_argument("--frames", type=int, default=16, help="how many are drawn")
    parser.add_argument("--batch", type=int, help="2, on a GPU 8")
    parser.add_argument("--steps", type=int, help="in a turn; 4, on a GPU 50")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--device", choices=["cpu", "cuda"], default=best_device().type)
    parser.add_argument("--precision", choices=["auto", "float32", "bfloat16"], default="auto")
    parser.add_argument("--compile", choices=COMPILE, default="auto", help="auto: on a GPU")
    parser.add_argument("--residency", choices=["auto", "device", "host"], default="auto")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--workers", type=int, default=min(8, os.cpu_count() or 1))
    parser.add_argument("--profile", action="store_true", help="where our step's time goes")
    arguments = parser.parse_args()
    is_gpu = arguments.device != "cpu"
    arguments.batch = arguments.batch or (8 if is_gpu else 2)
    arguments.steps = arguments.steps or (50 if is_gpu else 4)
    arguments.frame_size = arguments.frame_size or [2 * side for side in arguments.size]
    setting = TrainingSetup(
        variant=arguments.variant,
        crop=tuple(arguments.size),
        batch_size=arguments.batch,
        device=torch.device(arguments.device),
        precision=arguments.precision,
        compile=COMPILE["no" if arguments.profile else arguments.compile],
        residency=arguments.residency,
    )
    torch.set_num_threads(arguments.threads)
    set_deterministic(False)  # as the pipeline does unless told otherwise
    print(
        f"torch {torch.__version__}, {describe_device(arguments)}; {setting.variant}, batch {setting.batch_size}"
    )
    print(f"crops of {arguments.size} from frames of {arguments.frame_size}")
    (print_profile if arguments.profile else compare)(arguments, setting)


def describe_device(arguments: argparse.Namespace) -> str:
    """The device in words."""
    if arguments.device == "cpu":
        return f"CPU, {arguments.threads} threads"
    return f"{torch.cuda.get_device_name()}, {os.cpu_count()} processors"


if __name__ == "__main__":
    main()
