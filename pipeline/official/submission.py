"""Write the zip for the Cityscapes test server: a full-size PNG of label ids per test frame."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from pipeline.dataset.archive import IMAGE, Archive, Member, write_zip
from pipeline.evaluation.predictions import encode_label_ids, prediction_file_name
from segformer.inference.predictor import Predictor


def select_photographs(images: Archive, split: str) -> dict[str, Member]:
    """Select the photographs of one split, by frame key.

    Raises:
        ValueError: if there is none; the message names the existing splits.
    """
    members = images.members(IMAGE)
    photographs = {key: member for key, member in members.items() if key.startswith(f"{split}/")}
    if not photographs:
        frames_by_split = Counter(key.partition("/")[0] for key in members)
        splits = ", ".join(f"{name} ({number})" for name, number in sorted(frames_by_split.items()))
        raise ValueError(
            f"{images.path}: no photograph of the split {split}, expected at"
            f" leftImg8bit/{split}/CITY/CITY_000000_000019_leftImg8bit.png; "
            + (
                f"choose an existing split with --split: {splits}"
                if splits
                else "it has no other split"
            )
        )
    return photographs


def write_submission(
    predictor: Predictor,
    images: Path,
    out: Path,
    *,
    split: str,
    progress: Callable[[int, int], None],
) -> int:
    """Write the predictions of every photograph of a split into a zip, whole or not at all.

    Args:
        predictor: predicts the classes of a photograph.
        images: the leftImg8bit zip, or a folder with `leftImg8bit/`.
        out: the zip to write.
        split: the split to predict; the server expects `test`.
        progress: called with frames done and frames in all.

    Returns:
        The number of frames in the zip.

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
