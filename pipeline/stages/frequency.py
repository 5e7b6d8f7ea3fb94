"""Count how often each class occurs; derive class weights and sampling probabilities."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.dataset.class_plot import plot_class_frequency
from pipeline.dataset.class_weights import ClassCounts, weight_families
from pipeline.dataset.official_counts import compare_counts
from pipeline.dataset.splits import TRAINING_SPLITS
from pipeline.dataset.tables import ID_COLUMNS, join_tables
from pipeline.formatting import format_count, format_percent
from pipeline.params.frequency import Frequency
from segformer.atomic import replacing, write_text
from segformer.cityscapes import CLASSES, IGNORE, LABELS

PixelCounts = NDArray[np.int64]

_CLASS_LABEL_IDS = [label.label_id for label in CLASSES]  # in train-id order
_MAX_LISTED = 5
"""Names listed in a message; the others are counted."""


def count_classes(params: Frequency, *, frames: Path, pixel_counts: Path, out: Path) -> list[str]:
    """Write the tables and the figure of class frequencies.

    For the training splits: `class_frequency.csv` and `.png`, `class_weights.csv` (every family),
    `sampling.csv`. For all frames, by label id: `per_split.csv`, `per_city.csv`.

    Args:
        params: the section `frequency`.
        frames: frames.csv of `remap`.
        pixel_counts: pixel_counts.csv of `remap`.
        out: where to write.

    Returns:
        Messages to print, a sentence each.

    Raises:
        ValueError: if the tables are not those of `remap`, or no training pixel is labeled.
    """
    table = join_tables(frames, pixel_counts)
    training = table[table["split"].isin(TRAINING_SPLITS)]
    per_frame = training[ID_COLUMNS].to_numpy(np.int64)
    counts = ClassCounts.from_pixels(per_frame, _CLASS_LABEL_IDS)
    sampling = pd.DataFrame({"frame": training["frame"]})
    sampling["probability"] = rare_class_sampling(
        per_frame[:, _CLASS_LABEL_IDS], params.temperature
    )
    by_label = label_frequency(per_frame)
    tables = {
        "class_frequency.csv": class_frequency(by_label),
        "sampling.csv": sampling,
        "per_split.csv": group_frequency(table, ["split"]),
        "per_city.csv": group_frequency(table, ["split", "city"]),
    }
    for name, content in tables.items():
        write_text(out / name, content.to_csv(index=False))
    # Seven digits, not decimals: the weight of a very frequent class must not become 0.
    weights = class_weights(counts, params.beta).to_csv(index=False, float_format="%.7g")
    write_text(out / "class_weights.csv", weights)
    with replacing(out / "class_frequency.png") as part:
        plot_class_frequency(by_label, len(training), part)
    return _summarize(table, by_label, len(training))


def label_frequency(per_frame: PixelCounts) -> pd.DataFrame:
    """One row per label id from (frames, 34) pixels.

    Columns: class, label_id, train_id (255: not scored), category, pixels, share (of the labeled
    pixels; nan if not scored), share_of_all (void included), frames (with at least one pixel).
    """
    pixels = per_frame.sum(axis=0)
    table = pd.DataFrame(
        {
            "class": [label.name for label in LABELS],
            "label_id": [label.label_id for label in LABELS],
            "train_id": [label.train_id for label in LABELS],
            "category": [label.category for label in LABELS],
            "pixels": pixels,
        }
    )
    num_labeled = max(int(pixels[_CLASS_LABEL_IDS].sum()), 1)
    table["share"] = (table["pixels"] / num_labeled).where(table["train_id"] != IGNORE)
    table["share_of_all"] = table["pixels"] / max(int(pixels.sum()), 1)
    table["frames"] = (per_frame > 0).sum(axis=0)
    return table.round({"share": 8, "share_of_all": 8})


def class_frequency(by_label: pd.DataFrame) -> pd.DataFrame:
    """Return the scored rows of `label_frequency`, in train-id order."""
    scored = by_label[by_label["train_id"] != IGNORE].sort_values("train_id")
    return scored[["class", "train_id", "category", "pixels", "share", "frames"]]


def class_weights(counts: ClassCounts, beta: float) -> pd.DataFrame:
    """Return one row per class, one column per family of loss weights."""
    names = {
        "class": [label.name for label in CLASSES],
        "train_id": [label.train_id for label in CLASSES],
    }
    return pd.DataFrame(
        names | {name: weigh(counts) for name, weigh in weight_families(beta).items()}
    )


def group_frequency(table: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Stack the `label_frequency` of every group of frames, with the group's keys in front."""
    pieces = []
    for _, rows in table.groupby(keys, sort=True):
        piece = label_frequency(rows[ID_COLUMNS].to_numpy(np.int64))
        for position, key in enumerate(keys):
            piece.insert(position, key, rows[key].iloc[0])
        pieces.append(piece)
    return pd.concat(pieces, ignore_index=True)


def rare_class_sampling(class_pixels: PixelCounts, temperature: float) -> NDArray[np.float64]:
    """Compute the probability of each frame when a class is drawn first, rare ones more often.

    A class is drawn with probability ~ exp((1 - share) / temperature), then one of the frames in
    which it occurs, evenly (DAFormer, arXiv:2111.14887, section 3.3).

    Args:
        class_pixels: (frames, 19) pixel counts.
        temperature: above 0; the larger, the more even the probabilities.

    Returns:
        (frames,) probabilities; 0 for frames without a labeled pixel.
    """
    occurs = class_pixels > 0
    frames_with = occurs.sum(axis=0)
    present = frames_with > 0
    share = class_pixels.sum(axis=0)[present] / max(class_pixels.sum(), 1)
    exponent = (1 - share) / temperature
    classes = np.exp(exponent - exponent.max())
    classes /= classes.sum()
    return np.asarray((occurs[:, present] / frames_with[present]) @ classes)


def _summarize(table: pd.DataFrame, by_label: pd.DataFrame, num_frames: int) -> list[str]:
    scored = class_frequency(by_label)
    present = scored[scored["pixels"] > 0].sort_values("pixels")
    rarest = present.iloc[0]
    labeled_share = by_label.loc[by_label["share"].notna(), "share_of_all"].sum()
    messages = [
        f"{format_count(num_frames, 'training frame')}, {format_percent(labeled_share)} % of the"
        f" pixels labeled; rarest class: {rarest['class']}, {format_percent(rarest['share'], 3)} %"
        f" of the labeled pixels, in {format_count(rarest['frames'], 'frame')}"
    ]
    absent = scored.loc[scored["pixels"] == 0, "class"].tolist()
    if absent:
        more = f" and {len(absent) - _MAX_LISTED} more" if len(absent) > _MAX_LISTED else ""
        messages.append(
            f"warning: classes without a training pixel: {', '.join(absent[:_MAX_LISTED])}{more};"
            " they cannot be learned"
        )
    per_frame = table[ID_COLUMNS].to_numpy(np.int64)
    for is_equal, message in compare_counts(table["frame"].tolist(), per_frame):
        messages.append(message if is_equal else f"warning: {message}")
    return messages
