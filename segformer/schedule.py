"""The paper's learning-rate schedule, as a factor of the base learning rate."""

import math


def warmup_poly(
    step: int,
    *,
    steps: int,
    warmup_steps: int,
    power: float = 1.0,
    warmup_ratio: float = 1e-6,
) -> float:
    """Return the factor for update number `step`: a linear rise to 1, then a fall to 0.

    Args:
        step: updates done so far, 0 to `steps`.
        steps: updates in all; the factor is 0 there.
        warmup_steps: updates until the factor is 1.
        power: of the fall; 1 is a straight line.
        warmup_ratio: the factor of the first update, if there is a warm-up.

    Raises:
        ValueError: for a step beyond the last, or a warm-up as long as the training.
    """
    if not 0 <= warmup_steps < steps:
        raise ValueError(
            f"warmup_steps is {warmup_steps}; it must be at least 0 and less than steps, {steps}"
        )
    if not 0 <= step <= steps:
        raise ValueError(f"step is {step}; it must be 0 to {steps}")
    if step < warmup_steps:
        return warmup_ratio + (1 - warmup_ratio) * step / warmup_steps
    return math.pow((steps - step) / (steps - warmup_steps), power)
