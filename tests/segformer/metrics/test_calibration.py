import numpy as np
import pytest
import torch
from torch import Tensor

from segformer.metrics.calibration import (
    calibration_counts,
    confidence,
    expected_calibration_error,
    reliability,
)


def make_random_inputs(seed: int, bins: int = 15) -> tuple[Tensor, Tensor, Tensor]:
    """Confidences (2, 5, 7), some on the edges of bins; predictions and labels with void."""
    rng = np.random.default_rng(seed)
    confidences = rng.random((2, 5, 7)).astype(np.float32)
    confidences[0, 0] = [0, 1, 0.5, 0.25, 0.75, 1 / bins, 1e-12]
    predicted = rng.integers(0, 3, confidences.shape)
    target = rng.choice([0, 1, 2, 255], confidences.shape)
    return torch.from_numpy(confidences), torch.from_numpy(predicted), torch.from_numpy(target)


def reference_counts(
    confidences: Tensor, predicted: Tensor, target: Tensor, bins: int
) -> np.ndarray:
    """(bins, 3), pixel by pixel and bin by bin as defined in the paper."""
    counts = np.zeros((bins, 3))
    pixels = zip(confidences.flatten(), predicted.flatten(), target.flatten(), strict=True)
    for p, actual, true in pixels:
        for i in range(bins):
            # The paper's bins are open below; 0 belongs to the first all the same.
            is_in = i < float(p) * bins <= i + 1 or (i == 0 and p == 0)
            if true != 255 and is_in:
                counts[i] += 1, float(p), float(actual == true)
    return counts


@pytest.mark.parametrize("bins", [1, 4, 10, 15])
@pytest.mark.parametrize("seed", range(3))
def test_counts_equal_a_plain_loop(seed: int, bins: int) -> None:
    """Pixels, confidence and correct ones of every bin, without void."""
    case = make_random_inputs(seed, bins)
    counts = calibration_counts(*case, num_bins=bins)
    assert (torch.float64, (bins, 3)) == (counts.dtype, tuple(counts.shape))
    np.testing.assert_allclose(counts, reference_counts(*case, bins), rtol=1e-15, atol=0)


def test_error_and_reliability_by_hand() -> None:
    """Two bins: 3 pixels at 0.4 with 1 correct, 1 correct at 0.9; 2 of void."""
    confidences = torch.tensor([[[0.4, 0.4, 0.4, 0.9, 0.9, 0.1]]])
    target = torch.tensor([[[0, 1, 1, 0, 255, 255]]])
    counts = calibration_counts(confidences, torch.zeros_like(target), target, num_bins=2)
    expected = 3 / 4 * abs(1 / 3 - 0.4) + 1 / 4 * abs(1 - 0.9)
    assert expected == pytest.approx(float(expected_calibration_error(counts)), abs=1e-7)
    table = reliability(counts)
    assert [0, 0.5] == table.lower.tolist()
    assert [0.5, 1] == table.upper.tolist()
    assert [3, 1] == table.pixels.tolist()
    np.testing.assert_allclose([0.4, 0.9], table.confidence, atol=1e-7)
    np.testing.assert_allclose([1 / 3, 1], table.accuracy)


def test_default_number_of_bins() -> None:
    """The paper has 15."""
    assert 15 == len(calibration_counts(*make_random_inputs(0)))


def test_empty_bin_is_nan_and_adds_no_error() -> None:
    """Its row is nan, the error is that of the others."""
    counts = torch.tensor([[0.0, 0, 0], [4, 3.0, 2]])
    assert 0.25 == float(expected_calibration_error(counts))
    table = reliability(counts)
    np.testing.assert_array_equal([np.nan, 0.75], table.confidence)
    np.testing.assert_array_equal([np.nan, 0.5], table.accuracy)


def test_void_only_has_no_error() -> None:
    """It is nan, not 0."""
    confidences, predicted, target = make_random_inputs(1)
    counts = calibration_counts(confidences, predicted, torch.full_like(target, 255))
    assert 0 == float(counts.sum())
    assert bool(expected_calibration_error(counts).isnan())


def test_calibrated_predictions_have_no_error() -> None:
    """At confidence q a share of q is correct: the error is sampling noise, below 1.5 %."""
    generator = torch.Generator().manual_seed(0)
    confidences = torch.rand(1, 200, 200, generator=generator)
    target = (torch.rand(1, 200, 200, generator=generator) > confidences).long()
    counts = calibration_counts(confidences, torch.zeros_like(target), target)
    assert float(expected_calibration_error(counts)) < 0.015


def test_confident_and_wrong_predictions_have_error_one() -> None:
    """The largest possible error."""
    ones = torch.ones(1, 2, 2)
    counts = calibration_counts(ones, torch.zeros(1, 2, 2), ones)
    assert 1.0 == float(expected_calibration_error(counts))


def test_counts_sum_in_any_order() -> None:
    """Counts of the parts in another order have the same bits as those of the whole."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(1, 19, 64, 64, generator=generator)
    target = torch.randint(0, 19, (1, 64, 64), generator=generator)
    confidences, predicted = confidence(scores), scores.argmax(1)
    whole = calibration_counts(confidences, predicted, target)
    parts = [
        calibration_counts(*(part[:, rows].flip(2) for part in (confidences, predicted, target)))
        for rows in (slice(40, 64), slice(0, 7), slice(7, 40))
    ]
    assert torch.equal(whole, sum(parts))


def test_stacked_counts() -> None:
    """One error per arm or frame."""
    counts = torch.stack([calibration_counts(*make_random_inputs(seed)) for seed in range(3)])
    expected = torch.stack([expected_calibration_error(part) for part in counts])
    assert torch.equal(expected, expected_calibration_error(counts))


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_confidence_is_the_largest_softmax_probability(scale: float) -> None:
    """It equals PyTorch's softmax in float64, also for huge scores."""
    scores = scale * torch.randn(2, 6, 4, 5, generator=torch.Generator().manual_seed(0))
    expected = scores.double().softmax(1).amax(1)
    confidences = confidence(scores)
    assert torch.float32 == confidences.dtype
    torch.testing.assert_close(expected.float(), confidences, rtol=1e-6, atol=0)
    assert (confidences <= 1).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_confidence_of_half_precision_scores(dtype: torch.dtype) -> None:
    """The softmax of half-precision scores is computed in float32."""
    scores = torch.randn(1, 19, 4, 5, generator=torch.Generator().manual_seed(0)).to(dtype)
    torch.testing.assert_close(confidence(scores.float()), confidence(scores), rtol=0, atol=0)


def test_inputs_are_not_modified() -> None:
    """Neither the scores nor the labels are written to."""
    scores = torch.randn(1, 3, 2, 2)
    confidences, predicted, target = make_random_inputs(2)
    before = [part.clone() for part in (scores, confidences, predicted, target)]
    confidence(scores)
    calibration_counts(confidences, predicted, target)
    for expected, part in zip(before, (scores, confidences, predicted, target), strict=True):
        assert torch.equal(expected, part)


@pytest.mark.parametrize(
    ("confidences", "size", "bins", "message"),
    [
        (1.5, (1, 2, 2), 15, "allowed are 0 to 1"),
        (-0.1, (1, 2, 2), 15, "allowed are 0 to 1"),
        (float("nan"), (1, 2, 2), 15, "confidences range from nan to nan"),
        (0.5, (1, 4, 4), 15, "resize the scores"),
        (0.5, (1, 2, 2), 0, "num_bins is 0; it must be at least 1"),
    ],
)
def test_invalid_confidences_are_refused(
    confidences: float, size: tuple[int, ...], bins: int, message: str
) -> None:
    """Scores passed as confidences would be in no bin."""
    zeros = torch.zeros(size)
    with pytest.raises(ValueError, match=message):
        calibration_counts(torch.full((1, 2, 2), confidences), zeros, zeros, num_bins=bins)
