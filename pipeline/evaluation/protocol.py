"""The protocol id of an evaluation: which frames were scored, and with which settings."""

import pandas as pd

from segformer.inference.settings import InferenceSettings, Size


def read_image_sizes(frames: pd.DataFrame) -> list[Size]:
    """Rows and columns of every photograph, of a table with columns rows, columns."""
    return list(zip(frames["rows"].tolist(), frames["columns"].tolist(), strict=True))


def format_protocol(
    frames: pd.DataFrame, split_rule: str, settings: InferenceSettings, weights: str
) -> str:
    """What was measured on and how: `val500/official/1024x2048/whole/ss/last`.

    Split and number of frames, how the frames were divided, what the network sees, whole or by
    windows, at which scales and whether mirrored too, and which weights were taken.
    Numbers are compared only where all of it is the same.

    Args:
        frames: those scored, all of one split, with columns split, rows, columns.
        split_rule: `pipeline.dataset.splits.rule_name`.
        settings: how they are shown.
        weights: `last`, those of the last step; `ema`, their moving average.
    """
    split = frames["split"].iloc[0]
    return (
        f"{split}{len(frames)}/{split_rule}/{settings.describe(read_image_sizes(frames))}/{weights}"
    )
