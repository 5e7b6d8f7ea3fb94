"""Labels of a film's frames, in Cityscapes' layout, for scores over the film."""

from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pipeline.dataset.archive import IMAGE, LABEL_IDS, Archive, index_by_frame
from pipeline.video.frames import FrameSource
from pipeline.video.pictures import PictureSource
from segformer.cityscapes import train_id_table


class FilmTruth:
    """The train ids of frames, found by the official names of their pictures.

    Args:
        path: zip or folder of `gtFine/.../*_gtFine_labelIds.png`.
        source: the pictures, `leftImg8bit/.../*_leftImg8bit.png`.

    Raises:
        ValueError: if `path` is no zip or folder, or has labels of none of the pictures.
    """

    def __init__(self, path: Path, source: FrameSource) -> None:
        if not isinstance(source, PictureSource):
            raise ValueError(
                f"--truth {path}: labels are found by the names of pictures, and {source.path} is a"
                " film; give its frames as a zip in the layout of leftImg8bit_demoVideo.zip"
            )
        self._archive = Archive(path)
        label_maps = self._archive.members(LABEL_IDS)
        pictures = index_by_frame(source.members, IMAGE, source.path)
        self._names = {
            picture.name: label_maps[key].name
            for key, picture in pictures.items()
            if key in label_maps
        }
        if not self._names:
            raise ValueError(
                f"--truth {path}: no labels of {source.path}; a label has the name of its picture,"
                " with gtFine_labelIds in place of leftImg8bit"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._archive.__exit__(None, None, None)

    def read(self, picture: str) -> NDArray[np.uint8] | None:
        """(h, w) uint8 train ids of a picture; None if it has no labels.

        Raises:
            ValueError: if its label map is damaged.
        """
        name = self._names.get(picture)
        return None if name is None else train_id_table()[self._archive.open_labels(name)]


def find_truth(images: Path) -> Path | None:
    """The labels beside a zip of pictures.

    `gtFine_demoVideo.zip` for `leftImg8bit_demoVideo.zip`, and `street-labels.zip`, which the
    command `drive` writes, for `street.zip`.

    Returns:
        The path, or None if there is no such file.
    """
    if images.name.startswith(f"{IMAGE}_"):
        beside = images.with_name("gtFine" + images.name.removeprefix(IMAGE))
    else:
        beside = images.with_name(f"{images.stem}-labels.zip")
    return beside if beside.exists() else None
