"""One process or many that train together: who this one is, and what all of them know together.

Many are started by torchrun, each with a copy of the network and its share of every batch. Alone,
each function here gives back what it was given.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import Store
from torch.distributed.elastic.multiprocessing.errors import get_error_handler
from torch.distributed.rendezvous import rendezvous

TIMEOUT = timedelta(minutes=10)
"""For which a process is waited for whose connection still stands, but which does not answer."""

T = TypeVar("T")


class LostProcessError(ValueError):
    """Another process cannot be reached: it was killed, its machine is gone, or never was there."""


@contextmanager
def process_group(device: torch.device) -> Iterator[torch.device]:
    """Join the processes that torchrun started, and leave them at the end; alone without torchrun.

    Where one fails, all end, and only the first to fail lets its error through: the others leave
    with SystemExit and say nothing.

    Args:
        device: where to compute; a GPU without an index becomes the one of this process.

    Yields:
        The device of this process.

    Raises:
        ValueError: where the machine has fewer GPUs than processes.
        LostProcessError: where another process was killed or cannot be reached.
    """
    if not dist.is_torchelastic_launched():
        yield device
        return
    store, rank, world_size = next(rendezvous("env://"))
    try:
        # Gloo carries what is known on the host, so that nobody has to wait for a GPU to hear it.
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(
            backend, store=store, rank=rank, world_size=world_size, timeout=TIMEOUT
        )
        yield _local_gpu() if device.type == "cuda" else device
    except Exception as error:
        if not _is_first_failure(store):
            sys.exit(1)
        # torchrun's SIGTERM, which follows, must not come between.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        get_error_handler().record_exception(error)  # for torchrun to know that it is said
        if _is_connection_error(error):
            raise LostProcessError(_lost_process_message(world_size)) from error
        raise
    # Not after an error: what other processes still owe would be waited for.
    dist.destroy_process_group()


def rank() -> int:
    """Which process this is: 0 for the first or only one, up to count() - 1."""
    return dist.get_rank() if _is_distributed() else 0


def world_size() -> int:
    """Return how many processes train together."""
    return dist.get_world_size() if _is_distributed() else 1


def is_main() -> bool:
    """Whether this is the process that writes files and reports."""
    return rank() == 0


def all_reduce_shared(tensor: Tensor) -> Tensor:
    """Sum over all processes of a tensor of one shape and type, the same bits in each of them.

    Each process then makes the same loss of the same sums, and knows the gradient of its own share
    only; DistributedDataParallel takes their mean. Hence the gradient here is multiplied by the
    number of processes: the mean is then the gradient that one process has with the whole batch.
    """
    if world_size() == 1:
        return tensor
    total: Tensor = _all_reduce_with_gradient(tensor, True)
    return total


def all_reduce(tensor: Tensor) -> Tensor:
    """Sum over all processes of a tensor of which each then makes something else.

    The gradient is the sum of theirs, for which all have to go backward too.
    """
    if world_size() == 1:
        return tensor
    total: Tensor = _all_reduce_with_gradient(tensor, False)
    return total


def all_gather(tensor: Tensor) -> list[Tensor]:
    """Return every process's tensor, of one shape and type, in the order of rank; no gradient."""
    if world_size() == 1:
        return [tensor.detach()]
    tensors = [torch.empty_like(tensor) for _ in range(world_size())]
    dist.all_gather(tensors, tensor.detach().contiguous())
    return tensors


def any_rank(flag: bool) -> bool:
    """Whether it is so in any process; waits for all of them, but for no GPU."""
    return any(bool(each) for each in all_gather(torch.tensor(flag)))


def broadcast(value: T) -> T:
    """Return what the first process holds; it is pickled, and goes over the host."""
    if world_size() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0, device=torch.device("cpu"))
    return values[0]


class _AllReduce(torch.autograd.Function):
    @staticmethod
    def forward(tensor: Tensor, _is_used_alike: bool) -> Tensor:
        return _sum_over_ranks(tensor)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], _output: Any) -> None:
        ctx.is_used_alike = inputs[1]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        gradient = gradients[0]
        return gradient * world_size() if ctx.is_used_alike else _sum_over_ranks(gradient), None


_all_reduce_with_gradient: Callable[[Tensor, bool], Any] = _AllReduce.apply


def _sum_over_ranks(tensor: Tensor) -> Tensor:
    total = tensor.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total


def _is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized()


def _local_gpu() -> torch.device:
    gpus, processes = torch.cuda.device_count(), int(os.environ["LOCAL_WORLD_SIZE"])
    if processes > gpus:
        raise ValueError(
            f"{processes} processes on a machine with {gpus} GPUs: each process takes one; lower "
            "--nproc-per-node"
        )
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    torch.cuda.set_device(device)
    return device


def _is_first_failure(store: Store) -> bool:
    try:
        # It lives in torchrun, and so outlives the processes.
        return int(store.add("failed", 1)) == 1
    except RuntimeError:  # torchrun is gone as well
        return True


def _is_connection_error(error: Exception) -> bool:
    # Gloo has no error of its own.
    return isinstance(error, dist.DistError) or "gloo" in str(error).lower()


def _lost_process_message(processes: int) -> str:
    if not dist.is_initialized():
        return (
            f"{processes} processes do not reach each other; of several machines each has to name "
            "its network interface in GLOO_SOCKET_IFNAME, and with GPUs in NCCL_SOCKET_IFNAME"
        )
    return (
        f"one of {processes} processes was killed, or its machine is gone, and so all have ended; "
        "the same command goes on from the last state saved"
    )
