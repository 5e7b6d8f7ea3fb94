"""Learning rate schedules, as factors of the base learning rate."""

import math


def warmup_poly(
    step: int,
    *,
    steps: int,
    warmup_steps: int,
    power: float = 1.0,
    warmup_ratio: float = 1e-6,
) -> float:
    """Return the factor of the paper's schedule: a linear warm-up to 1, then polynomial decay to 0.

    Args:
        step: number of updates done, 0 to `steps`.
        steps: total number of updates; the factor is 0 there.
        warmup_steps: number of updates until the factor is 1.
        power: exponent of the decay; 1 is linear.
        warmup_ratio: factor of the first update, if there is a warm-up.

    Raises:
        ValueError: for a step beyond the last, or a warm-up as long as the training.
    """
    if not 0 <= warmup_steps < steps:
        raise ValueError(
            f"warmup_steps is {warmup_steps}; it must be at least 0 and less than steps, {steps}"
        )
    _check_step(step, steps)
    if step < warmup_steps:
        return warmup_ratio + (1 - warmup_ratio) * step / warmup_steps
    return math.pow((steps - step) / (steps - warmup_steps), power)


def one_cycle(
    step: int,
    *,
    steps: int,
    warmup_share: float = 0.3,
    start_ratio: float = 1 / 25,
    end_ratio: float = 1 / 25 / 1e4,
) -> float:
    """Return the factor of the one-cycle schedule: cosine annealing up to 1, then down.

    The values are those of PyTorch's OneCycleLR, whose `max_lr` is the base learning rate here;
    after Smith and Topin, arXiv:1708.07120. Adam's betas do not change.

    Args:
        step: number of updates done, 0 to `steps`.
        steps: total number of updates; the last one, number `steps` - 1, has `end_ratio`.
        warmup_share: share of the updates until the factor is 1, 0 or more and below 1.
        start_ratio: factor of the first update.
        end_ratio: factor of the last update.

    Raises:
        ValueError: for a step beyond the last, or a warm-up as long as the training.
    """
    if not 0 <= warmup_share < 1:
        raise ValueError(f"warmup_share is {warmup_share}; it must be at least 0 and less than 1")
    _check_step(step, steps)
    peak, last = warmup_share * steps - 1, steps - 1
    if step < peak:
        return _anneal_cosine(start_ratio, 1.0, step / peak)
    return _anneal_cosine(1.0, end_ratio, (min(step, last) - peak) / (last - peak))


def _anneal_cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))


def _check_step(step: int, steps: int) -> None:
    if not 0 <= step <= steps:
        raise ValueError(f"step is {step}; it must be 0 to {steps}")
