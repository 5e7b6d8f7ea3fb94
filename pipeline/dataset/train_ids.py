"""Checks a frame's label map against its photograph, counts its labels, and maps train ids."""

from dataclasses import dataclass

from pipeline.dataset.archive import Archive, Member
from segformer.cityscapes import LABELS, train_id_table
from segformer.images import encode_png


@dataclass(frozen=True)
class RemappedFrame:
    """The result for one frame.

    Attributes:
        size: rows and columns.
        counts: pixels of each label id, 0 to 33.
        png: the label map in train ids, as a PNG file.
    """

    size: tuple[int, int]
    counts: list[int]
    png: bytes


@dataclass(frozen=True)
class FrameRemapper:
    """Checks and maps the frames of two packages; can be pickled."""

    photographs: Archive
    label_maps: Archive

    def __call__(self, pair: tuple[Member, Member]) -> RemappedFrame | list[str]:
        """Return the remapped frame of a photograph and its label map, or its problems."""
        photograph, label_map = pair
        try:
            size = self.photographs.read_image_size(photograph.name)
            image = self.label_maps.open_label_image(label_map.name)
        except ValueError as error:
            return [str(error)]
        # PIL counts and maps in a third of NumPy's time.
        counts = image.histogram()
        problems = _find_problems(label_map, (image.height, image.width), counts, size)
        if problems:
            return problems
        png = encode_png(image.point(train_id_table().tolist()))
        return RemappedFrame(size, counts[: len(LABELS)], png)


def format_size(size: tuple[int, int]) -> str:
    """`1024 x 2048`: rows and columns."""
    return " x ".join(map(str, size))


def _find_problems(
    member: Member, size: tuple[int, int], counts: list[int], expected: tuple[int, int]
) -> list[str]:
    """The problems of a label map: its size, and ids without a label."""
    problems = []
    if size != expected:
        problems.append(
            f"{member.name} is {format_size(size)} pixels, but its photograph is"
            f" {format_size(expected)}"
        )
    problems += [
        f"{member.name} has id {value} at {count} pixels; label ids go from 0 to {len(LABELS) - 1}"
        for value, count in enumerate(counts)
        if count and value >= len(LABELS)
    ]
    return problems
