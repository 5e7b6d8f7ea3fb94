"""Run the official evaluation script, unchanged, on PNGs as a reference for our scores."""

import copy
import importlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image


class OfficialFrame(NamedTuple):
    """One frame as the script reads it, all (h, w): predicted and true label ids, instance ids."""

    predicted: NDArray[np.uint8]
    label_ids: NDArray[np.uint8]
    instance_ids: NDArray[np.uint16]


def load_official_script() -> ModuleType:
    """Import the module of the official script."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations in the modules that the script imports
        return importlib.import_module(
            "cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling"
        )


def run_official_script(folder: Path, frames: Sequence[OfficialFrame]) -> dict[str, Any]:
    """Write the frames into `folder`, let the script score them, and return its results."""
    script = load_official_script()
    arguments = copy.copy(script.args)
    arguments.quiet, arguments.JSONOutput = True, False
    predictions, labels = [], []
    for number, frame in enumerate(frames):
        names = ("predicted", "gtFine_labelIds", "gtFine_instanceIds")
        paths = [folder / f"{number}_{name}.png" for name in names]
        for picture, path in zip(frame, paths, strict=True):
            Image.fromarray(picture).save(path)
        predictions.append(str(paths[0]))
        labels.append(str(paths[1]))
    with pytest.MonkeyPatch.context() as patch:
        # NumPy 2.4 removed in1d, which the script calls, in favor of isin.
        patch.setattr(np, "in1d", np.isin, raising=False)
        results: dict[str, Any] = script.evaluateImgLists(predictions, labels, arguments)
    return results
