"""Collective operations for data-parallel training with torchrun.

Each process has a copy of the network and its share of every batch. With a single process, every
collective operation returns its argument.
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
"""How long to wait for a process that is connected but does not answer."""

T = TypeVar("T")


class LostProcessError(ValueError):
    """Another process cannot be reached: it was killed, or its machine is down or unknown."""


@contextmanager
def process_group(device: torch.device) -> Iterator[torch.device]:
    """Initialize the process group of torchrun, and destroy it at the end.

    Without torchrun this does nothing. If one process fails, all end: only the first to fail raises
    its error, the others exit with SystemExit and no message.

    Args:
        device: where to compute; a GPU without an index becomes this process's GPU.

    Yields:
        The device of this process.

    Raises:
        ValueError: if the machine has fewer GPUs than processes.
        LostProcessError: if another process was killed or cannot be reached.
    """
    if not dist.is_torchelastic_launched():
        yield device
        return
    store, rank, world_size = next(rendezvous("env://"))
    try:
        # Gloo for tensors on the host, so that exchanging them never waits for a GPU.
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(
            backend, store=store, rank=rank, world_size=world_size, timeout=TIMEOUT
        )
        yield _local_gpu() if device.type == "cuda" else device
    except Exception as error:
        if not _is_first_failure(store):
            sys.exit(1)
        # torchrun's SIGTERM, which follows, must not interrupt this.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        get_error_handler().record_exception(error)  # so that torchrun reports it
        if _is_connection_error(error):
            raise LostProcessError(_lost_process_message(world_size)) from error
        raise
    # Not after an error: it would wait for pending operations of other processes.
    dist.destroy_process_group()


def rank() -> int:
    """Return the index of this process: 0 for the first or only one, up to world_size() - 1."""
    return dist.get_rank() if _is_distributed() else 0


def world_size() -> int:
    """Return the number of processes that train together."""
    return dist.get_world_size() if _is_distributed() else 1


def is_main() -> bool:
    """Return whether this is the process that writes files and reports."""
    return rank() == 0


def all_reduce_shared(tensor: Tensor) -> Tensor:
    """Sum a tensor over all processes, for a loss that every process computes alike from the sum.

    The tensor has one shape and type in all processes; the result has the same bits in each. Each
    process has the gradient of its own share only, and DistributedDataParallel takes their mean.
    Hence the gradient is multiplied by the number of processes here: the mean is then the gradient
    that a single process has for the whole batch.
    """
    if world_size() == 1:
        return tensor
    total: Tensor = _all_reduce_with_gradient(tensor, True)
    return total


def all_reduce(tensor: Tensor) -> Tensor:
    """Sum a tensor over all processes, each of which then uses the sum differently.

    The gradient is the sum of the gradients of all processes; all of them have to run the backward
    pass.
    """
    if world_size() == 1:
        return tensor
    total: Tensor = _all_reduce_with_gradient(tensor, False)
    return total


def all_gather(tensor: Tensor) -> list[Tensor]:
    """Return the tensors of all processes, of one shape and type, by rank; without gradient."""
    if world_size() == 1:
        return [tensor.detach()]
    tensors = [torch.empty_like(tensor) for _ in range(world_size())]
    dist.all_gather(tensors, tensor.detach().contiguous())
    return tensors


def any_rank(flag: bool) -> bool:
    """Return whether the flag is set in any process; waits for all processes, but for no GPU."""
    return any(bool(value) for value in all_gather(torch.tensor(flag)))


def broadcast(value: T) -> T:
    """Return the value of the first process; it is pickled, and sent over the host."""
    if world_size() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0, device=torch.device("cpu"))
    return values[0]


class _AllReduce(torch.autograd.Function):
    @staticmethod
    def forward(tensor: Tensor, _is_shared: bool) -> Tensor:
        return _sum_over_ranks(tensor)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], _output: Any) -> None:
        ctx.is_shared = inputs[1]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        gradient = gradients[0]
        return gradient * world_size() if ctx.is_shared else _sum_over_ranks(gradient), None


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
            f"{processes} processes on a machine with {gpus} GPUs: each process needs one; lower "
            "--nproc-per-node"
        )
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    torch.cuda.set_device(device)
    return device


def _is_first_failure(store: Store) -> bool:
    try:
        # The store lives in torchrun, and so outlives the processes.
        return int(store.add("failed", 1)) == 1
    except RuntimeError:  # torchrun has ended as well
        return True


def _is_connection_error(error: Exception) -> bool:
    # Gloo has no exception class of its own.
    return isinstance(error, dist.DistError) or "gloo" in str(error).lower()


def _lost_process_message(processes: int) -> str:
    if not dist.is_initialized():
        return (
            f"{processes} processes cannot reach each other; on several machines, set "
            "GLOO_SOCKET_IFNAME to the network interface of each, and NCCL_SOCKET_IFNAME with GPUs"
        )
    return (
        f"one of {processes} processes was killed or its machine is down, so all were stopped; "
        "run the same command to resume from the last saved state"
    )
