"""The zip for the Cityscapes test server: a full-size PNG of label ids for every test frame."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from pipeline.dataset.archive import IMAGE, Archive, Member, write_zip
from pipeline.evaluation.predictions import encode_label_ids, prediction_file_name
from segformer.inference.predictor import Predictor


def select_photographs(images: Archive, split: str) -> dict[str, Member]:
    """The photographs of one split, by frame key.

    Raises:
        ValueError: if there is none; the splits that are there are named.
    """
    members = images.members(IMAGE)
    found = {key: member for key, member in members.items() if key.startswith(f"{split}/")}
    if not found:
        there = Counter(key.partition("/")[0] for key in members)
        named = ", ".join(f"{name} ({number})" for name, number in sorted(there.items()))
        raise ValueError(
            f"{images.path}: no photograph of the split {split}, which would lie at"
            f" leftImg8bit/{split}/CITY/CITY_000000_000019_leftImg8bit.png; "
            + (f"choose one that is there with --split: {named}" if named else "it holds no other")
        )
    return found


def write_submission(
    predictor: Predictor,
    images: Path,
    out: Path,
    *,
    split: str,
    progress: Callable[[int, int], None],
) -> int:
    """Predict every photograph of a split into a zip, which is written whole or not at all.

    Args:
        predictor: says what it sees in a photograph.
        images: the leftImg8bit zip, or a folder that holds `leftImg8bit/`.
        out: the zip.
        split: the server wants `test`.
        progress: called with frames done and frames in all.

    Returns:
        How many frames are in the zip.

    Raises:
        ValueError: if there is no photograph of that split, or one cannot be read.
    """
    with Archive(images) as archive:
        members = select_photographs(archive, split)
        with write_zip(out) as submission:
            for done, (key, member) in enumerate(members.items(), start=1):
                classes = predictor.predict_classes(archive.open_image(member.name))
                submission.add(prediction_file_name(key), encode_label_ids(classes))
                progress(done, len(members))
    return len(members)
