"""The tables of the head portraits: by head and class, by class, by head; and metrics."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from pipeline.explain.portraits.measurements import HeadName, HeadPortraits
from segformer.cityscapes import CLASS_NAMES


def build_lift_table(portraits: HeadPortraits) -> pd.DataFrame:
    """Build lift.csv: a row per head and class that occurs in a key."""
    train_ids = np.flatnonzero(portraits.key_share > 0).tolist()
    pairs = [(i, k) for i in range(len(portraits.heads)) for k in train_ids]
    return pd.DataFrame([_describe_pair(portraits, i, k) for i, k in pairs])


def build_class_table(portraits: HeadPortraits) -> pd.DataFrame:
    """Build classes.csv: a row per class with its strongest head, significant or not.

    It is the head whose interval begins highest; without intervals, the one of the highest lift.
    """
    pairs = []
    for k in np.flatnonzero(portraits.key_share > 0).tolist():
        low = portraits.lift.low[:, k]
        strength = portraits.lift.value[:, k] if np.isnan(low).all() else low
        pairs.append((int(np.nanargmax(strength)), k))
    return pd.DataFrame([_describe_pair(portraits, i, k) for i, k in pairs])


def build_head_table(portraits: HeadPortraits) -> pd.DataFrame:
    """Build heads.csv: a row per head with its distance and entropy, and their intervals."""
    table = pd.DataFrame([_head_columns(head) for head in portraits.heads])
    for name in ("distance", "entropy"):
        estimates = getattr(portraits, name)
        table[name] = estimates.value
        table[f"{name}_low"] = estimates.low
        table[f"{name}_high"] = estimates.high
    return table


def collect_metrics(portraits: HeadPortraits) -> dict[str, float]:
    """Collect the numbers of explain.json: counts, and the means of the heads of each stage."""
    is_significant = portraits.is_significant
    metrics: dict[str, float] = {
        "frames": portraits.num_frames,
        "heads": len(portraits.heads),
        "pairs": int((~np.isnan(portraits.p_holm)).sum()),
        "above_uniform": int((is_significant & (portraits.lift.value > 1)).sum()),
        "below_uniform": int((is_significant & (portraits.lift.value < 1)).sum()),
    }
    for stage, rows in group_by_stage(portraits.heads).items():
        for name in ("distance", "entropy"):
            mean = float(getattr(portraits, name).value[rows].mean())
            metrics[f"stage_{stage}_{name}"] = round(mean, 6)
    return metrics


def group_by_stage(heads: Sequence[HeadName]) -> dict[int, list[int]]:
    """Return the indices of the heads of each stage."""
    groups: dict[int, list[int]] = {}
    for i, head in enumerate(heads):
        groups.setdefault(head.stage, []).append(i)
    return groups


def _describe_pair(portraits: HeadPortraits, head: int, train_id: int) -> dict[str, object]:
    return _head_columns(portraits.heads[head]) | {
        "class": CLASS_NAMES[train_id],
        "lift": portraits.lift.value[head, train_id],
        "low": portraits.lift.low[head, train_id],
        "high": portraits.lift.high[head, train_id],
        "p_holm": portraits.p_holm[head, train_id],
        "position_lift": portraits.position_lift[head, train_id],
        "frames": portraits.num_class_frames[head, train_id],
    }


def _head_columns(head: HeadName) -> dict[str, object]:
    return {"stage": head.stage, "block": head.block, "head": head.head}
