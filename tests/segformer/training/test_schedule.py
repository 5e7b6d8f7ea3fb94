import math

import pytest
import torch
from torch import nn

from segformer.training.schedule import one_cycle, warmup_poly


@pytest.mark.parametrize(
    ("step", "factor"),
    [
        (0, 1e-6),
        (750, 0.5000005),
        (1499, 0.999333334),
        (1500, 1.0),
        (80750, 0.5),
        (159_999, 1 / 158_500),
        (160_000, 0.0),
    ],
)
def test_warmup_poly_of_the_paper(step: int, factor: float) -> None:
    """160k steps, 1500 of warm-up from 1e-6, then linear decay to 0; computed by hand."""
    ours = warmup_poly(step, steps=160_000, warmup_steps=1500)
    assert factor == pytest.approx(ours, rel=1e-9, abs=0)


def test_warmup_poly_over_ten_updates() -> None:
    """Two of warm-up from a ratio of 0.2, then eight equal steps toward 0."""
    ours = [warmup_poly(step, steps=10, warmup_steps=2, warmup_ratio=0.2) for step in range(10)]
    assert [0.2, 0.6, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125] == pytest.approx(ours)


@pytest.mark.parametrize(("step", "factor"), [(0, 1.0), (5, 0.25), (8, 0.04), (10, 0.0)])
def test_power_of_the_decay(step: int, factor: float) -> None:
    """Without warm-up and with power 2, the factor half-way is a quarter."""
    ours = warmup_poly(step, steps=10, warmup_steps=0, power=2.0)
    assert factor == pytest.approx(ours)


@pytest.mark.parametrize(("step", "factor"), [(0, 0.1), (1, 0.4), (2, 0.7), (3, 1.0), (4, 0.5)])
def test_warmup_starts_at_its_ratio(step: int, factor: float) -> None:
    """Three steps from 0.1 to 1, then half-way down after one of two."""
    ours = warmup_poly(step, steps=5, warmup_steps=3, warmup_ratio=0.1)
    assert factor == pytest.approx(ours)


@pytest.mark.parametrize("warmup_steps", [-1, 10, 11])
def test_warmup_as_long_as_the_training_is_refused(warmup_steps: int) -> None:
    """The warm-up must end before the training."""
    with pytest.raises(ValueError, match=rf"warmup_steps is {warmup_steps}; .* less than steps"):
        warmup_poly(0, steps=10, warmup_steps=warmup_steps)


@pytest.mark.parametrize("step", [-1, 11])
def test_step_beyond_the_last_is_refused(step: int) -> None:
    """There is no factor for such a step."""
    with pytest.raises(ValueError, match=f"step is {step}; it must be 0 to 10"):
        warmup_poly(step, steps=10, warmup_steps=1)


TEN_OF_ONE_CYCLE = [
    0.04,  # a 25th
    0.52,  # half-way up
    1.0,  # the third of ten: 30 %
    0.950484632,  # down along the cosine of 1/7 of half a turn, to a 25th of a 10,000th
    0.811745653,
    0.611262022,
    0.388741978,
    0.188258347,
    0.049519368,
    0.000004,
]


def test_one_cycle_over_ten_updates() -> None:
    """Half a cosine from 0.04 to 1, half a cosine from 1 to 4e-6."""
    ours = [one_cycle(step, steps=10) for step in range(10)]
    assert TEN_OF_ONE_CYCLE == pytest.approx(ours, abs=1e-9)


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 10, 1000])
def test_one_cycle_equals_pytorch(steps: int) -> None:
    """Every update equals PyTorch's OneCycleLR, also if the warm-up is shorter than a step."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))])
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=2.0, total_steps=steps, cycle_momentum=False
    )
    for step in range(steps):
        expected = theirs.get_last_lr()[0]
        assert expected == pytest.approx(2.0 * one_cycle(step, steps=steps), rel=1e-9)
        optimizer.step()
        if step < steps - 1:
            theirs.step()


def test_one_cycle_is_constant_after_the_last_update() -> None:
    """After the last update the factor does not rise again."""
    assert one_cycle(9, steps=10) == one_cycle(10, steps=10)


def test_one_cycle_without_warmup() -> None:
    """With a warm-up share of 0 the first factor is nearly the largest."""
    assert math.isclose(1.0, one_cycle(0, steps=10_000, warmup_share=0.0), rel_tol=1e-6)


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_one_cycle_warmup_as_long_as_the_training_is_refused(share: float) -> None:
    """The warm-up must end before the training."""
    with pytest.raises(ValueError, match=f"warmup_share is {share}; .* less than 1"):
        one_cycle(0, steps=10, warmup_share=share)


@pytest.mark.parametrize("step", [-1, 11])
def test_step_beyond_the_cycle_is_refused(step: int) -> None:
    """There is no factor for such a step."""
    with pytest.raises(ValueError, match=f"step is {step}; it must be 0 to 10"):
        one_cycle(step, steps=10)
