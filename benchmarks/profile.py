"""Where the time of a training step goes: its operators, sorted by kind of work."""

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
    "element by element, sums": r".",
}
"""Kind of work by what stands in an operator's name; the first that fits."""

_OPTIMIZER = re.compile(r"Optimizer\.|_foreach_|vector_norm")
_STEP = "one step"


def profile_step(step: Callable[[], object], device: torch.device) -> dict[str, float]:
    """Milliseconds of a step by kind of work; on a GPU those in which it works.

    Args:
        step: run once; its loss is `marked`.
        device: whose time is meant.
    """
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as profiler:
        with record_function(_STEP):
            step()
        synchronize(device)
    events = [event for event in profiler.events() if event.device_type.name == "CPU"]
    of_loss = {
        event.sequence_nr
        for event in events
        if event.sequence_nr >= 0 and any(parent.name == LOSS for parent in _iter_ancestors(event))
    }
    times: Counter[str] = Counter()
    for event in events:
        if device.type == "cuda" and event.is_user_annotation:
            continue  # a GPU counts what ran within it once more
        if device.type == "cuda":
            times[_classify_event(event, of_loss)] += event.self_device_time_total / 1e3
        else:
            times[_classify_event(event, of_loss)] += event.self_cpu_time_total / 1e3
    return dict(times.most_common())


def annotate_loss(loss: Loss) -> Loss:
    """The same loss, which `by_kind` can tell from the network."""

    def run(scores: Tensor, target: Tensor) -> Tensor:
        with record_function(LOSS):
            return loss(scores, target)

    return run


def _classify_event(event: FunctionEvent, of_loss: set[int]) -> str:
    parents = list(_iter_ancestors(event))
    # An operator of the backward pass has the number of the one that it belongs to.
    is_of_loss = any(
        parent.name == LOSS
        or ("evaluate_function" in parent.name and parent.sequence_nr in of_loss)
        for parent in parents
    )
    if is_of_loss:
        return LOSS
    if any(_OPTIMIZER.search(parent.name) for parent in parents):
        return OPTIMIZER
    if not event.name.startswith("aten::"):
        return "between operators"
    return next(kind for kind, pattern in _KINDS.items() if re.search(pattern, event.name[6:]))


def _iter_ancestors(event: FunctionEvent) -> Iterator[FunctionEvent]:
    """The event and all that called it."""
    above: FunctionEvent | None = event
    while above is not None:
        yield above
        above = above.cpu_parent
