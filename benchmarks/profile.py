"""Profile of a training step: the time of its operators, by kind of operation."""

import re
from collections import Counter
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.autograd.profiler import record_function
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile

from benchmarks.arithmetic import synchronize
from segformer.losses import Loss

LOSS, OPTIMIZER = "loss", "optimizer"

_KINDS = {
    "attention": r"attention",
    "convolutions": r"convolution",
    "norms": r"(layer|batch)_norm",
    "resizing": r"upsample",
    "matrix products": r"(mm|linear)(_|$)",
    "memory copies": r"(copy|clone|cat|stack|zero|fill)(_|$)",
    "elementwise, sums": r".",
}
"""Kind of operation by a pattern in the operator's name; the first match counts."""

_OPTIMIZER = re.compile(r"Optimizer\.|_foreach_|vector_norm")
_STEP = "one step"


def profile_step(step: Callable[[], object], device: torch.device) -> dict[str, float]:
    """Return the milliseconds of a step by kind of operation; on a GPU, those of its kernels.

    Args:
        step: run once; its loss is from `annotate_loss`.
        device: the device whose time is measured.
    """
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as profiler:
        with record_function(_STEP):
            step()
        synchronize(device)
    events = [event for event in profiler.events() if event.device_type.name == "CPU"]
    loss_numbers = {
        event.sequence_nr
        for event in events
        if event.sequence_nr >= 0 and any(parent.name == LOSS for parent in _iter_ancestors(event))
    }
    times: Counter[str] = Counter()
    for event in events:
        if device.type == "cuda" and event.is_user_annotation:
            continue  # its kernels are counted already
        if device.type == "cuda":
            times[_classify_event(event, loss_numbers)] += event.self_device_time_total / 1e3
        else:
            times[_classify_event(event, loss_numbers)] += event.self_cpu_time_total / 1e3
    return dict(times.most_common())


def annotate_loss(loss: Loss) -> Loss:
    """Return the same loss, which `profile_step` can distinguish from the network."""

    def annotated(scores: Tensor, target: Tensor) -> Tensor:
        with record_function(LOSS):
            return loss(scores, target)

    return annotated


def _classify_event(event: FunctionEvent, loss_numbers: set[int]) -> str:
    parents = list(_iter_ancestors(event))
    # An operator of the backward pass has the sequence number of its forward operator.
    is_loss = any(
        parent.name == LOSS
        or ("evaluate_function" in parent.name and parent.sequence_nr in loss_numbers)
        for parent in parents
    )
    if is_loss:
        return LOSS
    if any(_OPTIMIZER.search(parent.name) for parent in parents):
        return OPTIMIZER
    if not event.name.startswith("aten::"):
        return "between operators"
    return next(kind for kind, pattern in _KINDS.items() if re.search(pattern, event.name[6:]))


def _iter_ancestors(event: FunctionEvent) -> Iterator[FunctionEvent]:
    """Yield the event and all its callers."""
    ancestor: FunctionEvent | None = event
    while ancestor is not None:
        yield ancestor
        ancestor = ancestor.cpu_parent
