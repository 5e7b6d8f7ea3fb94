"""A process of a distributed test; torchrun starts several, the tests compare with a single one.

python -m pipeline.torchrun --nproc-per-node 2 -m tests.end_to_end.distributed_worker results FOLDER
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from segformer import distributed
from segformer.data.packed_frames import PackedFrames
from segformer.inference.segment import evaluate_packed
from segformer.losses import LOSSES, WEIGHTED_LOSSES, get_loss
from segformer.training.sync_batchnorm import convert_sync_batchnorm

NUM_CLASSES = 4
VOID = 255
STOP_STEP = 3  # number of batches after which one process requests to stop
ERROR_MESSAGE = "labels: an error in one process"


def collect_results(folder: Path) -> dict[str, Any]:
    """Return results that should not depend on the number of processes, and the rank."""
    frames = PackedFrames.open(folder / "frames")
    shard = slice(distributed.rank(), None, distributed.world_size())
    images, target = (part[shard] for part in make_batch())
    return {
        "rank": distributed.rank(),
        "is_main": distributed.is_main(),
        "gathered": torch.stack(distributed.all_gather(torch.tensor([distributed.rank(), 7]))),
        "broadcast": distributed.broadcast({"run": distributed.rank()}),
        "stop_step": next(i for i in range(9) if distributed.any_rank(should_stop(i))),
        "losses": {name: compute_loss_and_gradients(name, images, target) for name in LOSSES},
        "confusions": [evaluate_packed(make_network(), frames, size, "cpu") for size in (2, 9)],
    }


def should_stop(step: int) -> bool:
    """The last process requests to stop from STOP_STEP on, the others never."""
    return distributed.rank() == distributed.world_size() - 1 and step >= STOP_STEP


def make_batch() -> tuple[Tensor, Tensor]:
    """Make four images and labels; two are mostly void, and a class is in one image only."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(4, 3, 6, 8, generator=generator, dtype=torch.float64)
    target = torch.randint(0, NUM_CLASSES - 1, (4, 6, 8), generator=generator)
    target[::2].masked_fill_(torch.rand(2, 6, 8, generator=generator) < 0.7, VOID)
    target[3, :2] = NUM_CLASSES - 1
    return images, target


def make_network() -> nn.Module:
    """Make two convolutions with a BatchNorm between them, the same in every process."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, NUM_CLASSES, 1)
    )


def compute_loss_and_gradients(name: str, images: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Return the value of a loss on this shard, all gradients, and the BatchNorm statistics."""
    weights = torch.arange(1.0, NUM_CLASSES + 1) if name in WEIGHTED_LOSSES else None
    model = make_network().double()
    if distributed.world_size() > 1:
        model = DistributedDataParallel(convert_sync_batchnorm(model))
        model.broadcast_buffers = False
    value = get_loss(name, weights)(nn.functional.pad(model(images), (1, 1, 1, 1)), target)
    value.backward()
    plain = model.module if isinstance(model, DistributedDataParallel) else model
    gradients = {
        key: parameter.grad
        for key, parameter in plain.named_parameters()
        if parameter.grad is not None
    }
    return {"value": value.detach()} | gradients | dict(plain.named_buffers())


def main(mode: str, folder: Path) -> None:
    """Save the results; the last process then fails, or is killed in mode `killed`."""
    with distributed.process_group(torch.device("cpu")):
        is_last = distributed.rank() == distributed.world_size() - 1
        if mode == "killed" and is_last:
            os.kill(os.getpid(), signal.SIGKILL)
        if mode == "results":
            torch.save(collect_results(folder), folder / f"{distributed.rank()}.pt")
            if is_last:
                raise ValueError(ERROR_MESSAGE)
        distributed.any_rank(False)  # all processes wait for each other


if __name__ == "__main__":
    try:
        main(sys.argv[1], Path(sys.argv[2]))
    except ValueError as error:
        sys.exit(f"error: {error}")
