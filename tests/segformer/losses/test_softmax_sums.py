import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from segformer.losses import Loss, softmax_sums
from segformer.losses.softmax_sums import log_probability, log_probability_and_class_sums
from tests.reference.scenes import (
    LOSS_NAMES,
    VOID,
    LossInputs,
    few_examples,
    loss_inputs,
    make_loss,
    random_loss_inputs,
)


def reference_sums(scores: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The same two results with PyTorch's operators and a one-hot map."""
    is_labeled = target != VOID
    truth = F.one_hot(target.where(is_labeled, 0), scores.shape[1]).permute(0, 3, 1, 2)
    logs = (scores.log_softmax(1) * truth).sum(1) * is_labeled
    return logs, (scores.softmax(1) * is_labeled[:, None]).sum(dim=(0, 2, 3))


@few_examples
@given(scene=loss_inputs(), pixels=st.sampled_from([1, 3, 8, 1000]), seed=st.integers(0, 99))
def test_values_and_gradients_equal_autograd(scene: LossInputs, pixels: int, seed: int) -> None:
    """For any number of pixels per band and any incoming gradient."""
    generator = torch.Generator().manual_seed(seed)
    results = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(softmax_sums, "PIXELS_ON_CPU", pixels)
        for function in (reference_sums, log_probability_and_class_sums):
            scores = scene.scores.clone().requires_grad_()
            logs, predicted = function(scores, scene.target)
            generator.manual_seed(seed)
            above = (
                torch.randn(t.shape, generator=generator, dtype=t.dtype) for t in (logs, predicted)
            )
            torch.autograd.backward([logs, predicted], [*above])
            results.append((logs, predicted, scores.grad))
    for expected, value in zip(*results, strict=True):
        torch.testing.assert_close(expected, value)


@few_examples
@given(scene=loss_inputs())
def test_both_functions_give_the_same_logs(scene: LossInputs) -> None:
    """Bit for bit, with or without the sums, in the gradient too."""
    gradients = []
    for function in (log_probability, lambda *scene: log_probability_and_class_sums(*scene)[0]):
        scores = scene.scores.clone().requires_grad_()
        logs = function(scores, scene.target)
        logs.square().sum().backward()
        gradients.append((logs, scores.grad))
    for expected, value in zip(*gradients, strict=True):
        torch.testing.assert_close(expected, value, atol=1e-14, rtol=1e-12)


def test_gradient_has_the_layout_of_the_scores() -> None:
    """Channels-last scores have a channels-last gradient, which needs no copy later."""
    scene = random_loss_inputs()
    contiguous = scene.scores.clone().requires_grad_()
    last = scene.scores.to(memory_format=torch.channels_last).requires_grad_()
    for scores in (contiguous, last):
        make_loss("ce_dice", 19)(scores, scene.target).backward()
    assert last.grad.stride() == last.stride() != contiguous.grad.stride()
    torch.testing.assert_close(contiguous.grad, last.grad)


def test_second_derivative_is_refused() -> None:
    """The gradient counts as a constant: PyTorch refuses to differentiate it."""
    scene = random_loss_inputs()
    scores = scene.scores.requires_grad_()
    value = log_probability(scores, scene.target).sum()
    (gradient,) = torch.autograd.grad(value, scores, create_graph=True)
    with pytest.raises(RuntimeError, match="does not require grad"):
        gradient.square().sum().backward()


class LargeTensorCounter(TorchDispatchMode):
    """Records the tensors of at least `size` elements created while it is active."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.made: dict[int, Tensor] = {}

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        """Run the operator and record its results."""
        results = function(*arguments, **(keywords or {}))
        for result in results if isinstance(results, tuple | list) else [results]:
            if isinstance(result, Tensor) and result.untyped_storage().nbytes() >= self.size:
                self.made[result.untyped_storage().data_ptr()] = result
        return results


def count_maps(loss: Loss, scene: LossInputs) -> int:
    """Memory allocated by a step, forward and backward, in maps of the size of the scores."""
    scores = scene.scores.requires_grad_()
    with LargeTensorCounter(scores.untyped_storage().nbytes()) as large:
        torch.autograd.grad(loss(scores, scene.target), scores)
    large.made.pop(scores.untyped_storage().data_ptr(), None)  # views of what was given
    return len(large.made)


@pytest.mark.parametrize("name", LOSS_NAMES)
def test_gradient_is_the_only_map(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No loss allocates a softmax, a one-hot map or a product of the size of the scores."""
    monkeypatch.setattr(softmax_sums, "PIXELS_ON_CPU", 16)
    assert 1 == count_maps(make_loss(name, 19), random_loss_inputs())


def test_map_counter_counts_a_one_hot_map() -> None:
    """The plain form allocates six or more, so that the test above can fail."""

    def one_hot_dice(scores: Tensor, target: Tensor) -> Tensor:
        truth = F.one_hot(target.where(target != VOID, 0), 19).permute(0, 3, 1, 2).float()
        probabilities = scores.softmax(1)
        return 1 - (2 * (probabilities * truth).sum() / (probabilities + truth).sum())

    assert 6 <= count_maps(one_hot_dice, random_loss_inputs())
