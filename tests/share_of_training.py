"""What one process of many finds out; torchrun starts several, the tests compare with one alone.

python -m pipeline.torchrun --nproc-per-node 2 -m tests.share_of_training findings FOLDER
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from segformer import processes
from segformer.frames import PackedFrames
from segformer.inference import evaluate_packed
from segformer.losses import LOSSES, WEIGHTED, get_loss
from segformer.shared_norm import share_statistics

CLASSES = 4
VOID = 255
ENOUGH = 3  # batches after which one of them wants to stop
MISTAKE = "labels: this is what the one process found wrong"


def findings(folder: Path) -> dict[str, Any]:
    """Everything that should not depend on how many processes look at it, and who this one is."""
    frames = PackedFrames.open(folder / "frames")
    share = slice(processes.rank(), None, processes.count())
    images, target = (part[share] for part in batch())
    return {
        "rank": processes.rank(),
        "is_first": processes.is_first(),
        "gathered": torch.stack(processes.gathered(torch.tensor([processes.rank(), 7]))),
        "from_first": processes.from_first({"run": processes.rank()}),
        "stops_after": next(i for i in range(9) if processes.any_of(wants_to_stop(i))),
        "losses": {name: trained(name, images, target) for name in LOSSES},
        "confusions": [evaluate_packed(network(), frames, size, "cpu") for size in (2, 9)],
    }


def wants_to_stop(step: int) -> bool:
    """The last process wants to from step ENOUGH on, the others never."""
    return processes.rank() == processes.count() - 1 and step >= ENOUGH


def batch() -> tuple[Tensor, Tensor]:
    """Four images and labels; two are mostly void, and a class is in one image only."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(4, 3, 6, 8, generator=generator, dtype=torch.float64)
    target = torch.randint(0, CLASSES - 1, (4, 6, 8), generator=generator)
    target[::2].masked_fill_(torch.rand(2, 6, 8, generator=generator) < 0.7, VOID)
    target[3, :2] = CLASSES - 1
    return images, target


def network() -> nn.Module:
    """Two convolutions with a BatchNorm between them, the same in every process."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, CLASSES, 1))


def trained(name: str, images: Tensor, target: Tensor) -> dict[str, Tensor]:
    """The value of a loss on this share, all gradients, and the statistics of the BatchNorm."""
    weights = torch.arange(1.0, CLASSES + 1) if name in WEIGHTED else None
    model = network().double()
    if processes.count() > 1:
        model = DistributedDataParallel(share_statistics(model))
        model.broadcast_buffers = False
    value = get_loss(name, weights)(nn.functional.pad(model(images), (1, 1, 1, 1)), target)
    value.backward()
    plain = model.module if isinstance(model, DistributedDataParallel) else model
    gradients = {key: one.grad for key, one in plain.named_parameters() if one.grad is not None}
    return {"value": value.detach()} | gradients | dict(plain.named_buffers())


def main(what: str, folder: Path) -> None:
    """Write the findings, and then make a mistake or be killed, in the last process only."""
    with processes.starting(torch.device("cpu")):
        is_last = processes.rank() == processes.count() - 1
        if what == "killed" and is_last:
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "findings":
            torch.save(findings(folder), folder / f"{processes.rank()}.pt")
            if is_last:
                raise ValueError(MISTAKE)
        processes.any_of(False)  # all wait for all


if __name__ == "__main__":
    try:
        main(sys.argv[1], Path(sys.argv[2]))
    except ValueError as mistake:
        sys.exit(f"error: {mistake}")
