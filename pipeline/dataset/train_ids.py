"""One frame's labels: checked against its photograph, counted, and brought to train ids."""

from dataclasses import dataclass

from pipeline.dataset.archive import Archive, Member
from segformer.cityscapes import LABELS, train_id_table
from segformer.images import encode_png


@dataclass(frozen=True)
class RemappedFrame:
    """What becomes of one frame.

    Attributes:
        size: rows and columns.
        counts: pixels of each label id, 0 to 33.
        png: the label map in train ids.
    """

    size: tuple[int, int]
    counts: list[int]
    png: bytes


@dataclass(frozen=True)
class FrameRemapper:
    """Checks and maps the frames of two packages; may be handed to other processes."""

    photographs: Archive
    label_maps: Archive

    def __call__(self, pair: tuple[Member, Member]) -> RemappedFrame | list[str]:
        """Give the frame of a photograph and its label map, or what is wrong with it."""
        photograph, label_map = pair
        try:
            size = self.photographs.read_image_size(photograph.name)
            picture = self.label_maps.open_label_image(label_map.name)
        except ValueError as problem:
            return [str(problem)]
        # By PIL, which counts and maps in a third of NumPy's time.
        counts = picture.histogram()
        problems = _find_problems(label_map, (picture.height, picture.width), counts, size)
        if problems:
            return problems
        return RemappedFrame(
            size, counts[: len(LABELS)], encode_png(picture.point(train_id_table().tolist()))
        )


def format_size(size: tuple[int, int]) -> str:
    """Rows and columns as text."""
    return " x ".join(map(str, size))


def _find_problems(
    member: Member, size: tuple[int, int], counts: list[int], expected: tuple[int, int]
) -> list[str]:
    """What is wrong with a label map: its size, and ids that no label has."""
    problems = []
    if size != expected:
        problems.append(
            f"{member.name} is {format_size(size)} pixels, but its photograph is {format_size(expected)}"
        )
    problems += [
        f"{member.name} has id {value} at {count} pixels; label ids go from 0 to {len(LABELS) - 1}"
        for value, count in enumerate(counts)
        if count and value >= len(LABELS)
    ]
    return problems
