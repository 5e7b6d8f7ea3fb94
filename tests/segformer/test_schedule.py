import pytest

from segformer.schedule import warmup_poly


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
def test_the_papers_factors(step: int, factor: float) -> None:
    """160k steps, 1500 of warm-up from 1e-6, then a straight line to 0; worked out by hand."""
    ours = warmup_poly(step, steps=160_000, warmup_steps=1500)
    assert factor == pytest.approx(ours, rel=1e-9, abs=0)


@pytest.mark.parametrize(("step", "factor"), [(0, 1.0), (5, 0.25), (8, 0.04), (10, 0.0)])
def test_the_power_bends_the_fall(step: int, factor: float) -> None:
    """Without warm-up and with power 2, half-way is a quarter."""
    ours = warmup_poly(step, steps=10, warmup_steps=0, power=2.0)
    assert factor == pytest.approx(ours)


@pytest.mark.parametrize(("step", "factor"), [(0, 0.1), (1, 0.4), (2, 0.7), (3, 1.0), (4, 0.5)])
def test_the_warm_up_starts_at_its_ratio(step: int, factor: float) -> None:
    """Three steps from 0.1 to 1, then half-way down after one of two."""
    ours = warmup_poly(step, steps=5, warmup_steps=3, warmup_ratio=0.1)
    assert factor == pytest.approx(ours)


@pytest.mark.parametrize("warmup_steps", [-1, 10, 11])
def test_a_warm_up_without_end_is_refused(warmup_steps: int) -> None:
    """It must end before the training does."""
    with pytest.raises(ValueError, match=rf"warmup_steps is {warmup_steps}; .* less than steps"):
        warmup_poly(0, steps=10, warmup_steps=warmup_steps)


@pytest.mark.parametrize("step", [-1, 11])
def test_a_step_beyond_the_last_is_refused(step: int) -> None:
    """There is no factor for it."""
    with pytest.raises(ValueError, match=f"step is {step}; it must be 0 to 10"):
        warmup_poly(step, steps=10, warmup_steps=1)
