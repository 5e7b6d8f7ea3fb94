"""Format the protocol of an evaluation: the scored frames and the settings."""

import pandas as pd

from segformer.inference.settings import InferenceSettings, Size


def read_image_sizes(frames: pd.DataFrame) -> list[Size]:
    """Read the size of every photograph from the columns `rows` and `columns` of a table."""
    return list(zip(frames["rows"].tolist(), frames["columns"].tolist(), strict=True))


def format_protocol(
    frames: pd.DataFrame, split_rule: str, settings: InferenceSettings, weights: str
) -> str:
    """Format the protocol, `val500/official/1024x2048/whole/ss/last`.

    Its parts: split and number of frames, the rule that divided the frames, the input size, whole
    frames or windows, scales and mirroring, and the weights. Scores are compared only if the whole
    protocol is the same.

    Args:
        frames: the scored frames, all of one split, with columns split, rows, columns.
        split_rule: the result of `pipeline.dataset.splits.split_id`.
        settings: how the network was applied.
        weights: `last` for the weights of the last step, `ema` for their moving average.
    """
    split = frames["split"].iloc[0]
    return (
        f"{split}{len(frames)}/{split_rule}/{settings.describe(read_image_sizes(frames))}/{weights}"
    )
