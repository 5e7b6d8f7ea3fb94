"""Scores and labels as inputs of losses, and losses with their class weights."""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

from segformer.losses import LOSSES, WEIGHTED_LOSSES, Loss, get_loss

VOID = 255
LOSS_NAMES = list(LOSSES)
few_examples = settings(derandomize=True, deadline=None, max_examples=8)


@dataclass(frozen=True)
class LossInputs:
    """Scores (b, k, h, w) and labels (b, h, w)."""

    scores: Tensor
    target: Tensor

    @property
    def k(self) -> int:
        """The number of classes."""
        return self.scores.shape[1]

    @property
    def is_void(self) -> Tensor:
        """(b, k, h, w): which scores belong to void pixels."""
        return (self.target == VOID)[:, None].expand_as(self.scores)

    def to(self, dtype: torch.dtype) -> "LossInputs":
        """Return the same inputs with scores of another type."""
        return replace(self, scores=self.scores.to(dtype))


@st.composite
def loss_inputs(draw: st.DrawFn, *, max_scale: float = 8.0) -> LossInputs:
    """Small batches in float64; any pixel may be void, any class absent."""
    b, h, w = (draw(st.integers(1, largest)) for largest in (3, 3, 4))
    k = draw(st.integers(2, 6))
    labels = st.sampled_from([*range(k), VOID])
    target = torch.tensor(draw(st.lists(labels, min_size=b * h * w, max_size=b * h * w)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    scale = draw(st.sampled_from([0.1, 1.0, max_scale]))
    scores = scale * torch.randn(b, k, h, w, generator=generator, dtype=torch.float64)
    return LossInputs(scores, target.reshape(b, h, w))


def random_loss_inputs(seed: int = 0, k: int = 19) -> LossInputs:
    """Random scores (2, k, 6, 8) in float32 and labels, about a quarter of them void."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(2, k, 6, 8, generator=generator)
    target = torch.randint(0, k, (2, 6, 8), generator=generator)
    target[torch.rand(2, 6, 8, generator=generator) < 0.25] = VOID
    return LossInputs(scores, target)


def make_perfect_scores(target: Tensor, k: int = 19, *, margin: float = 40.0) -> Tensor:
    """Make scores (b, k, h, w) with a margin for the true class, and 0 at void."""
    one_hot = F.one_hot(target.where(target != VOID, 0), k)
    return margin * one_hot.permute(0, 3, 1, 2).float()


def make_class_weights(k: int) -> Tensor:
    """Make a different weight for each class, independent of the number of classes."""
    return 0.5 + torch.arange(k) / 8


def make_loss(name: str, k: int) -> Loss:
    """Return the loss called `name`, with class weights if it takes any."""
    return get_loss(name, make_class_weights(k) if name in WEIGHTED_LOSSES else None)


def value_and_gradient(loss: Loss, scores: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the loss and its gradient with respect to the scores."""
    scores = scores.clone().requires_grad_()
    value = loss(scores, target)
    value.backward()
    assert scores.grad is not None
    return value.detach(), scores.grad
