"""Attention records and head portraits made by hand."""

import numpy as np
import torch

from pipeline.evaluation.bootstrap import Intervals
from pipeline.explain.portraits.measurements import HeadName, HeadPortraits
from segformer.cityscapes import NUM_CLASSES
from segformer.explain.attention_maps import AttentionRecord
from segformer.explain.block_attention import BlockAttention


def make_record(weights: list[list[float]]) -> AttentionRecord:
    """Make the record of a 4 x 4 picture: one block, 2 x 2 keys, and for each head its weights.

    Every query is 1 and every key the logarithm of its weight, so the softmax is the weights.
    """
    key = torch.tensor(weights).log()[:, :, None]
    query = torch.ones(len(weights), 4, 1)
    block = BlockAttention(query, key, (2, 2), (2, 2), 2, 2)
    return AttentionRecord((1,), (4, 4), None, ((block,),))


def make_portraits(
    lift: np.ndarray, *, half_width: float = 0.1, p_holm: float = 0.001, frames: int = 12
) -> HeadPortraits:
    """Make portraits of heads with these lifts (q, k); a class whose lifts are nan is absent.

    Heads stand in stages of four, blocks of two; the interval spans `half_width` of the lift.
    """
    q = len(lift)
    heads = [HeadName(i // 4, i % 4 // 2, i % 2) for i in range(q)]
    is_present = ~np.isnan(lift).any(axis=0)
    key_share = is_present / is_present.sum()
    distance = np.linspace(0.1, 0.4, q)
    entropy = np.linspace(0.9, 0.5, q)
    p = np.where(is_present, p_holm, np.nan) * np.ones((q, 1))
    return HeadPortraits(
        heads=heads,
        num_frames=frames,
        image_size=(32, 64),
        key_share=key_share,
        lift=Intervals(lift, lift * (1 - half_width), lift * (1 + half_width), p),
        p_holm=p,
        position_lift=np.sqrt(lift),
        num_class_frames=np.full((q, NUM_CLASSES), frames),
        distance=Intervals(distance, distance - 0.02, distance + 0.02, distance),
        entropy=Intervals(entropy, entropy - 0.02, entropy + 0.02, entropy),
    )
