"""Pack: decode and resize every frame once, into arrays that training maps into memory."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from pipeline.archive import TRAIN_IDS, Archive, member_name
from pipeline.section import NetworkSize, Section
from segformer.atomic import replacing
from segformer.frames import create, resize_image, resize_labels


class Pack(Section):
    """What the packed frames are like."""

    size: NetworkSize


def run(
    params: Pack,
    *,
    images: Path,
    labels: Path,
    frames: Path,
    out: Path,
    progress: Callable[[int, int], None],
) -> None:
    """Write `train/` and `val/` into `out`, each with images.npy, labels.npy and frames.csv.

    Args:
        params: the section `pack`.
        images: the leftImg8bit zip.
        labels: labels.zip of `remap`.
        frames: frames.csv of `remap`.
        out: where to write.
        progress: called with frames done and frames in all.

    Raises:
        ValueError: naming the file, if a picture cannot be decoded.
    """
    table = pd.read_csv(frames)
    done = 0
    with (
        Archive(images) as photographs,
        Archive(labels) as label_maps,
        replacing(out) as whole,
    ):
        for split, rows in table.groupby("split"):
            keys = rows["frame"].tolist()
            with create(whole / str(split), keys, params.size) as (packed_images, packed_labels):
                for i, key in enumerate(keys):
                    packed_images[i] = resize_image(photographs.photograph(key), params.size)
                    label = label_maps.open_labels(member_name(key, TRAIN_IDS))
                    packed_labels[i] = resize_labels(label, params.size)
                    done += 1
                    progress(done, len(table))
