"""Time training batches of packed frames against decoding PNGs: `python -m benchmarks.data`.

Frames of 1024 x 2048 pixels are synthetic, or read from `--tree`, an extracted Cityscapes. Each
method results in uint8 images and train ids of a batch at the size of training, as tensors. They
run in turns on one thread, with all files in the page cache. Then the stages `remap` and `pack`
with one process and with several: frames per second, with the start of the processes. Milliseconds
are CPU time, so that other programs do not count.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from skimage.io import imread
from skimage.transform import resize
from torch import Tensor

from pipeline import synthetic
from pipeline.dataset.archive import IMAGE, LABEL_IDS, Archive, write_zip
from segformer.cityscapes import train_id_table
from segformer.data.packed_frames import PackedFrames
from segformer.data.packing import allocate, write_frame

FRAME_SIZE = (1024, 2048)
NUM_PACKED = 128  # frames to sample batches from: more than fit in the CPU's caches

STAGE_SCRIPT = """
import os, sys
from pathlib import Path
from pipeline.params.pack import Pack
from pipeline.params.remap import Remap
from pipeline.stages.pack import pack_frames
from pipeline.stages.remap import remap_labels
stage, (count, *size), folder = sys.argv[1], map(int, sys.argv[3:]), Path(sys.argv[2])
common = {"images": folder / "left.zip", "out": folder / stage, "processes": count}
common["progress"] = lambda *_: None
before = os.times()
if stage == "remap":
    params = Remap(split="official", held_out=0.2, seed=0)
    remap_labels(params, ground_truth=folder / "gt.zip", **common)
else:
    labels, frames = (folder / "remap" / name for name in ("labels.zip", "frames.csv"))
    pack_frames(Pack(size=size), labels=labels, frames=frames, **common)
after = os.times()
print(after.elapsed - before.elapsed, sum(after[:4]) - sum(before[:4]))
"""
"""Runs a stage; prints its wall seconds, and the CPU seconds of all its processes."""

Size = tuple[int, int]
Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def decode_with_pillow(photograph: Path, label_map: Path, size: Size) -> Pair:
    """Decode and resize with Pillow."""
    columns_rows = (size[1], size[0])
    image = Image.open(photograph).resize(columns_rows, Image.Resampling.BILINEAR)
    labels = Image.open(label_map).resize(columns_rows, Image.Resampling.NEAREST)
    return np.asarray(image), train_id_table()[np.asarray(labels)]


def decode_with_skimage(photograph: Path, label_map: Path, size: Size) -> Pair:
    """Decode and resize with scikit-image, as in the course."""
    image = resize(imread(photograph), size, anti_aliasing=True, preserve_range=True)
    labels = resize(imread(label_map), size, order=0, anti_aliasing=False, preserve_range=True)
    return image.round().astype(np.uint8), train_id_table()[labels.astype(np.uint8)]


def make_batch_decoder(
    decode: Callable[[Path, Path, Size], Pair],
    files: Sequence[tuple[Path, Path]],
    size: Size,
    batch_size: int,
) -> Callable[[], tuple[Tensor, Tensor]]:
    """Return a function that decodes a batch."""

    def decode_batch() -> tuple[Tensor, Tensor]:
        pairs = [decode(*files[i % len(files)], size) for i in range(batch_size)]
        images, labels = (np.stack(arrays) for arrays in zip(*pairs, strict=True))
        return torch.from_numpy(images), torch.from_numpy(labels)

    return decode_batch


def write_packed_frames(
    folder: Path, files: Sequence[tuple[Path, Path]], size: Size, number: int
) -> PackedFrames:
    """Pack `number` frames, repeating the files."""
    allocate(folder, [str(index) for index in range(number)], size)
    pairs = [decode_with_pillow(*pair, size) for pair in files]
    for index in range(number):
        write_frame(folder, index, *pairs[index % len(pairs)])
    return PackedFrames.open(folder)


def median_cpu_seconds(functions: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    """Return the median CPU seconds of each function, called in turns after a warm-up."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(repeats + 1):
        for function, seconds in zip(functions, times, strict=True):
            start = time.process_time()
            function()
            seconds.append(time.process_time() - start)
    return [statistics.median(seconds[1:]) for seconds in times]


def compare_batches(folder: Path, files: Sequence[tuple[Path, Path]], size: Size) -> None:
    """Print the time per frame of each method."""
    batch_size = 4
    frames = write_packed_frames(folder / "many", files, size, NUM_PACKED)
    generator = torch.Generator().manual_seed(0)
    methods = {
        "pack": lambda: frames.batch(torch.randperm(NUM_PACKED, generator=generator)[:batch_size]),
        "Pillow": make_batch_decoder(decode_with_pillow, files, size, batch_size),
        "scikit-image": make_batch_decoder(decode_with_skimage, files, size, batch_size),
    }
    for images, labels in (method() for method in methods.values()):
        assert (images.shape, labels.shape) == ((batch_size, *size, 3), (batch_size, *size))
    ours, *others = median_cpu_seconds(list(methods.values()), repeats=5)
    kilobytes = np.mean([photograph.stat().st_size for photograph, _ in files]) / 1e3
    print(f"batches of {batch_size} frames at {size[0]} x {size[1]}, PNGs of {kilobytes:.0f} kB")
    print(f"{'pack':14}{1e3 * ours / batch_size:9.2f} ms per frame")
    for name, seconds in zip(list(methods)[1:], others, strict=True):
        print(f"{name:14}{1e3 * seconds / batch_size:9.2f} ms per frame{seconds / ours:8.0f}x")


def compare_stages(
    folder: Path, files: Sequence[tuple[Path, Path]], size: Size, number: int, processes: int
) -> None:
    """Print frames per second of remap and pack, by number of processes."""
    zips = folder / "left.zip", folder / "gt.zip"
    keys = [f"train/a/a_{i:06}_000000" for i in range(number - 1)] + ["val/b/b_000000_000000"]
    for path, kind, position in zip(zips, (IMAGE, LABEL_IDS), (0, 1), strict=True):
        with write_zip(path) as archive:
            for index, key in enumerate(keys):
                content = files[index % len(files)][position].read_bytes()
                archive.add(f"{kind.split('_')[0]}/{key}_{kind}.png", content)
    print(f"{number} frames{'remap':>20}{'pack':>26}")
    for count in dict.fromkeys((1, processes)):
        row = f"{count} {'process' if count == 1 else 'processes':10}"
        for stage in ("remap", "pack"):
            # As from the command line: the main module is fast to import.
            command = [sys.executable, "-c", STAGE_SCRIPT, stage, folder, *map(str, (count, *size))]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            wall, cpu = map(float, output.split())
            row += f"{number / wall:8.1f} /s{1e3 * cpu / number:8.1f} ms/frame"
        print(row, flush=True)


def draw_files(folder: Path, number: int) -> list[tuple[Path, Path]]:
    """Draw synthetic streets, and write their photographs and label maps as files."""
    zips = folder / "drawn_left.zip", folder / "drawn_gt.zip"
    synthetic.write(*zips, train=number, val=0, size=FRAME_SIZE, seed=0, progress=lambda *_: None)
    for path, kind in zip(zips, (IMAGE, LABEL_IDS), strict=True):
        with Archive(path) as archive:
            for member in archive.members(kind).values():
                file = folder / "tree" / member.name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(archive.read(member.name))
    return list_pairs(folder / "tree", number)


def list_pairs(tree: Path, number: int) -> list[tuple[Path, Path]]:
    """Return photographs and label maps of the first frames of a folder."""
    with Archive(tree) as archive:
        left, right = archive.members(IMAGE), archive.members(LABEL_IDS)
    keys = sorted(left.keys() & right.keys())[:number]
    return [(tree / left[key].name, tree / right[key].name) for key in keys]


def main() -> None:
    """Read the command line and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--tree", type=Path, help="an extracted Cityscapes; default: synthetic frames"
    )
    parser.add_argument("--frames", type=int, default=8, help="number of different frames")
    parser.add_argument("--size", nargs=2, type=int, default=[512, 1024], help="rows, columns")
    parser.add_argument("--staged", type=int, default=96, help="frames for remap and pack")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    size = (arguments.size[0], arguments.size[1])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.tree:
            files = list_pairs(arguments.tree, arguments.frames)
        else:
            files = draw_files(folder, arguments.frames)
        compare_batches(folder, files, size)
        compare_stages(folder, files, size, arguments.staged, arguments.processes)


if __name__ == "__main__":
    main()
