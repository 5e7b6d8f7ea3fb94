"""Reads numbered pictures of a folder or zip as films, one for each folder of pictures."""

import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from pipeline.dataset.archive import Archive
from pipeline.video.frames import Cut, VideoFrame, check_frame_size
from segformer.images import decode_photograph

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")


class PictureSource:
    """Pictures of one size, in order, as a film without sound.

    Args:
        path: the zip or folder.
        name: the film's name.
        members: names of the pictures in `path`, in order.
        frame_rate: pictures per second.
        cut: the part to read.

    Attributes:
        members: names of all pictures; beside them those of `FrameSource`.

    Raises:
        ValueError: if the first picture cannot be decoded.
    """

    has_audio = False

    def __init__(
        self, path: Path, name: str, members: list[str], *, frame_rate: Fraction, cut: Cut
    ) -> None:
        self.path = path
        self.name = name
        self.cut = cut
        self.frame_rate = frame_rate
        self.time_base = 1 / frame_rate
        self.damage: str | None = None
        self.members = members
        with Archive(path) as archive:
            self.rows, self.columns = self._read(archive, members[0]).shape[:2]

    @property
    def num_frames(self) -> int:
        """Pictures that an iteration yields."""
        return len(self._chosen())

    def __iter__(self) -> Iterator[VideoFrame]:
        """Decode the pictures of the cut; `damage` then says whether one ended it too early."""
        self.damage = None
        chosen = self._chosen()
        with Archive(self.path) as archive:
            for index in chosen:
                member = self.members[index]
                try:
                    image = self._read(archive, member)
                    if image.shape[:2] != (self.rows, self.columns):
                        raise ValueError(
                            f"{self.path}: {member} is {image.shape[0]} x {image.shape[1]}, the"
                            f" pictures before it {self.rows} x {self.columns}"
                        )
                except ValueError as error:
                    self.damage = f"{error}; the frames before are used"
                    return
                yield VideoFrame(image, (index - chosen[0]) * self.time_base, member)

    def _chosen(self) -> list[int]:
        times = [index * self.time_base for index in range(len(self.members))]
        end = self.cut.end_s
        inside = [
            index
            for index, time_s in enumerate(times)
            if time_s >= self.cut.start_s and (end is None or time_s < end)
        ]
        return inside[:: self.cut.every]

    def _read(self, archive: Archive, member: str) -> NDArray[np.uint8]:
        location = f"{self.path}: {member}"
        image = decode_photograph(archive.read(member), location)
        check_frame_size(image.shape[0], image.shape[1], location)
        return image


def find_sequences(path: Path) -> dict[str, list[str]]:
    """Find the sequences of a folder or zip: the folders in it that hold pictures.

    Returns:
        Name of the sequence -> its pictures' names in `path`, in order. The name is that of its
        folder, or of `path` for pictures that lie in no folder.

    Raises:
        ValueError: if `path` is not a complete zip, or holds no picture.
    """
    folders: dict[str, list[str]] = {}
    with Archive(path) as archive:
        for name in archive.names():
            picture = PurePosixPath(name)
            is_hidden = any(part.startswith((".", "__MACOSX")) for part in picture.parts)
            if picture.suffix.lower() in PICTURE_SUFFIXES and not is_hidden:
                folders.setdefault(picture.parent.as_posix(), []).append(name)
    if not folders:
        raise ValueError(f"{path} contains no picture ({', '.join(PICTURE_SUFFIXES)})")
    stems = {folder: PurePosixPath(folder).name or path.stem for folder in folders}
    is_unique = len(set(stems.values())) == len(folders)
    return {
        stems[folder] if is_unique else folder: sorted(names, key=_natural_order)
        for folder, names in sorted(folders.items())
    }


def _natural_order(name: str) -> list[tuple[bool, int, str]]:
    """A key by which `frame10` comes after `frame9`."""
    parts = re.split(r"(\d+)", name)
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]
