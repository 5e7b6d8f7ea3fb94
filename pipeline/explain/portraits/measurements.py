"""Head portraits: the classes that each attention head attends to, its distance and its entropy.

Dimensions: q heads of all stages and blocks, n frames, k classes, r bootstrap samples of frames.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from pipeline.evaluation.bootstrap import (
    Floats,
    Intervals,
    adjust_p_values,
    estimate_intervals,
    resample,
    sample_frames,
)
from segformer.cityscapes import NUM_CLASSES
from segformer.explain.attention_maps import AttentionRecord
from segformer.explain.head_statistics import HeadStatistics, head_statistics

SIGNIFICANCE_LEVEL = 0.05

_MIN_LIFT = 1e-6
"""Smaller ones count as this: an attention of 0 has no logarithm."""


@dataclass(frozen=True, order=True)
class HeadName:
    """The place of a head in the encoder; all three count from 0."""

    stage: int
    block: int
    head: int

    def __str__(self) -> str:
        return f"stage {self.stage}, block {self.block}, head {self.head}"


@dataclass(frozen=True)
class HeadPortraits:
    """Statistics of q heads over n frames, with intervals over frames.

    A lift is a ratio of means: the share of the attention on a class, mean over frames, divided by
    the class's share of the keys, mean over frames. It is 1 for uniform attention.

    Attributes:
        heads: the q heads, in the order of stages, blocks and heads.
        num_frames: n.
        image_size: rows and columns of the network's input, of the first frame.
        key_share: (k,) share of each class among the keys of all frames.
        lift: (q, k) estimates, with the p-values of lift 1; nan for a class without a key.
        p_holm: (q, k) p-values after Holm's correction for all of them.
        position_lift: (q, k) lift of the same attention on the labels of the other frames, which
            remains if a head attends to places whatever they show; nan with one frame, frames of
            several sizes, or frames added without it.
        num_class_frames: (q, k) number of frames with the class in a key.
        distance: (q,) mean distance from query to key, in image widths; nan for a CLS token.
        entropy: (q,) 0..1, relative to uniform attention.
    """

    heads: list[HeadName]
    num_frames: int
    image_size: tuple[int, int]
    key_share: Floats
    lift: Intervals
    p_holm: Floats
    position_lift: Floats
    num_class_frames: NDArray[np.int64]
    distance: Intervals
    entropy: Intervals

    @property
    def is_significant(self) -> NDArray[np.bool_]:
        """(q, k) whether a lift differs from 1 after Holm's correction."""
        return np.asarray(self.p_holm < SIGNIFICANCE_LEVEL)


@dataclass
class _PositionSums:
    """Running sums over frames, from which the attention on other frames' labels follows.

    The sum over frames f of w_f c_(-f), where c_(-f) is the mean over all other frames, equals
    (W T - sum_f w_f c_f) / (n - 1) with W = sum_f w_f and T = sum_f c_f.

    Attributes:
        weights: (a, m) W, attention on each key, mean over the queries.
        classes: (m, k) T, share of each class in each key.
        own: (a, k) sum of w_f c_f.
    """

    weights: Tensor
    classes: Tensor
    own: Tensor

    def add(self, other: "_PositionSums") -> None:
        self.weights = self.weights + other.weights
        self.classes = self.classes + other.classes
        self.own = self.own + other.own

    def lift(self) -> Floats:
        """(a, k); the sum over other frames is a difference, so it is computed in float64."""
        attended = (self.weights @ self.classes - self.own).clamp(min=0)
        key_share = self.classes.sum(0)
        with np.errstate(divide="ignore", invalid="ignore"):
            lift: Floats = _shares(attended.numpy()) / _shares(key_share.numpy())
        return lift


@dataclass
class HeadMeasurements:
    """Collects the statistics of one frame after another; a few kilobytes per frame."""

    _frames: list[list[HeadStatistics]] = field(default_factory=list)
    _positions: list[list[_PositionSums]] = field(default_factory=list)
    _image_sizes: list[tuple[int, int]] = field(default_factory=list)

    def add(self, record: AttentionRecord, labels: Tensor) -> None:
        """Measure the heads on a frame.

        Args:
            record: the attention of the network on the frame.
            labels: (H, W) int64 train ids of the pixels of the network's input; IGNORE is void.

        Raises:
            ValueError: if the labels have another size, or no labeled pixel lies in a key.
        """
        self.add_statistics(head_statistics(record, labels, NUM_CLASSES), record.image_size)
        if len(set(self._image_sizes)) > 1:
            return
        sums = list(_measure_positions(record, labels))
        if not self._positions:
            self._positions = [sums]
            return
        for total, part in zip(self._positions[0], sums, strict=True):
            total.add(part)

    def add_statistics(self, blocks: list[HeadStatistics], image_size: tuple[int, int]) -> None:
        """Add the statistics of a frame, of each block in order, without its position control.

        Args:
            blocks: of the same blocks for every frame.
            image_size: rows and columns of the network's input.
        """
        self._frames.append(blocks)
        self._image_sizes.append(image_size)

    def estimate_portraits(self, *, resamples: int, seed: int) -> HeadPortraits:
        """Estimate the portraits, with intervals from the bootstrap over frames.

        Args:
            resamples: r, bootstrap samples of frames.
            seed: of the bootstrap.

        Raises:
            ValueError: if no frame was added.
        """
        if not self._frames:
            raise ValueError("no frame was measured; measure at least one")
        num_frames = len(self._frames)
        draws = sample_frames(num_frames, resamples, seed)
        attended, key_share = self._stack("attended"), self._stack("key_share")
        lift, p_holm = estimate_lifts(attended, key_share, draws)
        return HeadPortraits(
            heads=_list_heads(self._frames[0]),
            num_frames=num_frames,
            image_size=self._image_sizes[0],
            key_share=key_share[:, 0].mean(axis=0),
            lift=lift,
            p_holm=p_holm,
            position_lift=self._position_lift(lift.value),
            num_class_frames=np.asarray((key_share > 0).sum(axis=0)),
            distance=_estimate_means(self._stack("distance"), draws),
            entropy=_estimate_means(self._stack("entropy"), draws).clip(0, 1),
        )

    def _stack(self, name: str) -> Floats:
        """(n, q, ...): one statistic of all frames and heads; values of a block are repeated."""
        frames = []
        for blocks in self._frames:
            parts = []
            for block in blocks:
                values = getattr(block, name)
                repeats = len(block.distance) if name == "key_share" else None
                parts.append(values if repeats is None else values.expand(repeats, -1))
            frames.append(torch.cat(parts))
        return np.asarray(torch.stack(frames).double().numpy())

    def _position_lift(self, like: Floats) -> Floats:
        if len(self._frames) < 2 or len(set(self._image_sizes)) > 1 or not self._positions:
            return np.full_like(like, np.nan)
        return np.concatenate([sums.lift() for sums in self._positions[0]])


def uniform_distance(image_size: tuple[int, int], points: int = 200) -> float:
    """Return the mean distance of two independent, uniform places, in image widths.

    A head with uniform attention has about this distance.

    Args:
        image_size: rows and columns.
        points: of the numeric integral, per axis.
    """
    aspect = image_size[0] / image_size[1]
    gap = (np.arange(points) + 0.5) / points  # the density of |x - y| is 2 (1 - gap)
    weight = 2 * (1 - gap) / points
    distance = np.hypot(gap[None], aspect * gap[:, None])
    return float(weight @ distance @ weight)


def _list_heads(blocks: list[HeadStatistics]) -> list[HeadName]:
    return [
        HeadName(block.stage, block.block, head)
        for block in blocks
        for head in range(len(block.distance))
    ]


def _measure_positions(record: AttentionRecord, labels: Tensor) -> Iterator[_PositionSums]:
    """Yield the terms of one frame, in float64, for every block in order."""
    is_class = (labels[None].cpu() == torch.arange(NUM_CLASSES)[:, None, None]).double()
    for stage, blocks in enumerate(record.stages):
        (rows, columns), stride = blocks[0].key_size, blocks[0].key_stride
        height, width = record.image_size
        # Negative padding crops: pixels beyond the last key are in none.
        covered = F.pad(is_class, (0, columns * stride - width, 0, rows * stride - height))
        classes = F.avg_pool2d(covered[None], stride)[0].flatten(1).T
        for block in range(len(blocks)):
            weights = record.looks_at(None, stage=stage, block=block).flatten(1).double().cpu()
            yield _PositionSums(weights, classes, weights @ classes)


def estimate_lifts(attended: Floats, key_share: Floats, draws: Floats) -> tuple[Intervals, Floats]:
    """Estimate lifts from shares per frame, with intervals from the bootstrap over frames.

    Estimated as logarithms: a lift of 2 and one of 1/2 are equally far from 1. The degrees of
    freedom are the effective number of frames less 1: a class with most of its pixels in a few of
    many frames is as uncertain as those few.

    Args:
        attended: (n, q, k) share of each head's attention on each class.
        key_share: (n, q, k) share of each class among the keys; 0 where a class is missing.
        draws: (r, n), of `sample_frames`.

    Returns:
        (q, k) lifts with the p-values of lift 1, and their p-values after Holm's correction for
        all; nan for a class without a key, the ends and p-values also for fewer than two
        effective frames.
    """
    shape = attended.shape[1:]
    logs = estimate_intervals(
        _log_ratio(attended.sum(axis=0), key_share.sum(axis=0)).reshape(1, -1),
        _log_ratio(resample(attended, draws), resample(key_share, draws)).reshape(
            1, len(draws), -1
        ),
        _count_effective_frames(key_share).reshape(-1),
    )
    with np.errstate(over="ignore"):  # with two effective frames an end may be infinite
        value, low, high = (np.exp(end).reshape(shape) for end in (logs.value, logs.low, logs.high))
    p_holm = adjust_p_values(logs.p).reshape(shape)
    return Intervals(value, low, high, logs.p.reshape(shape)), p_holm


def _count_effective_frames(key_share: Floats) -> NDArray[np.int64]:
    """(n, q, k) -> (q, k), rounded down: (sum s)^2 / sum s^2 of the shares s over frames.

    The number of frames of equal shares whose mean has the same variance (L. Kish, Survey
    Sampling, 1965, section 11.7).
    """
    squares = np.square(key_share).sum(axis=0)
    effective = np.divide(
        np.square(key_share.sum(axis=0)), squares, where=squares > 0, out=np.zeros_like(squares)
    )
    return np.asarray(np.floor(effective + 1e-6), dtype=np.int64)


def _log_ratio(attended: Floats, key_share: Floats) -> Floats:
    """Logarithm of the lift; nan where the class has no key."""
    is_present = key_share > 0
    ratio = np.divide(attended, key_share, where=is_present, out=np.full_like(attended, np.nan))
    return np.asarray(np.log(np.maximum(ratio, _MIN_LIFT)))


def _estimate_means(values: Floats, draws: Floats) -> Intervals:
    """(n, q) values per frame -> (q,) means."""
    num_frames, num_heads = values.shape
    return estimate_intervals(
        values.mean(axis=0)[None],
        (resample(values, draws) / num_frames)[None],
        np.full(num_heads, num_frames),
    )


def _shares(values: Floats) -> Floats:
    total = values.sum(axis=-1, keepdims=True)
    return np.asarray(values / total)
