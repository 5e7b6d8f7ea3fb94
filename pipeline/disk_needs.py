"""How much a whole run writes to the disk, guessed from the parameters before anything is there."""

from pipeline.config import Config
from pipeline.packages import IMAGES, LABELS

_DRAWN = 4  # bytes per pixel of a drawn frame, at most: a PNG in RGB, and its label maps
_REMAPPED = 0.1  # bytes per pixel of a train id PNG; 0.03 in the demo
_OFFICIAL_FRAMES = 2975 + 500
_OFFICIAL_PIXELS = 1024 * 2048
_EXTRA = 45 * 10**9  # bytes of the two packages of train_extra, whose exact sizes are not known
_PACKED = 4  # bytes per pixel: RGB and the train id
_PARAMETERS = {"b0": 3.7e6, "b1": 13.7e6, "b2": 27.4e6, "b3": 47.2e6, "b4": 64.0e6, "b5": 84.6e6}
"""Of the published decoder width (arXiv:2105.15203, table 1); an instance would take seconds."""
_COPIES = 2  # of a model: the stage's and MLflow's


def of(settings: Config, *, has_raw_data: bool) -> dict[str, int]:
    """Bytes by what they are for, more rather than less.

    Args:
        settings: the parameters.
        has_raw_data: whether the zips are there already.
    """
    download = settings.download
    if download.source == "synthetic":
        frames = download.synthetic.train + download.synthetic.val
        pixels = frames * download.synthetic.size[0] * download.synthetic.size[1]
        raw = pixels * _DRAWN
    else:
        frames = _OFFICIAL_FRAMES
        pixels = frames * _OFFICIAL_PIXELS
        raw = sum(package.size or 0 for package in (IMAGES, LABELS))
        raw += _EXTRA if download.train_extra else 0
    rows, columns = settings.pack.size
    arms = len(settings.ablation.losses) * len(settings.ablation.seeds)
    return {
        "raw data": 0 if has_raw_data else raw,
        "remapped labels": round(pixels * _REMAPPED),
        "packed frames": frames * rows * columns * _PACKED,
        "models": round(arms * _COPIES * 4 * _PARAMETERS[settings.train.variant]),
    }
