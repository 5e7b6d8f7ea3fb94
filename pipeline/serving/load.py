"""The model that people name, ready to segment: the champion, a folder, or one of MLflow's."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pipeline.tracking import store
from segformer import segmenter as segmenter_module
from segformer.model.variants import MIN_SIDE
from segformer.segmenter import Segmenter
from segformer.weights import checkpoint

_MODELS_URI = "models:/"


@dataclass(frozen=True)
class TrainedModel:
    """A model in memory.

    Attributes:
        name: where it came from, for people.
        segmenter: takes pictures.
        classes: their names, in the order of train ids.
    """

    name: str
    segmenter: Segmenter
    classes: list[str]


def load_model(
    reference: str = store.CHAMPION, size: tuple[int, int] | None = None
) -> TrainedModel:
    """Load a model.

    Args:
        reference: `champion`, a folder that segformer.weights.checkpoint.save wrote, or `models:/...`.
        size: rows and columns at which the network sees a picture; None: those of its evaluation,
            for a folder those it was trained with.

    Raises:
        ValueError: if there is no such model, it is damaged, or the size cannot be.
    """
    if size:
        _check_size(size)
    if reference == store.CHAMPION:
        reference = _champion_uri()
    if not reference.startswith(_MODELS_URI):
        return _load(reference, Path(reference), _read_config(Path(reference)), size)
    from pipeline.tracking import registry

    with TemporaryDirectory() as into:
        folder, told = registry.download_model(reference, Path(into))
        return _load(reference, folder, {"size": told.get("input_size")}, size)


def _load(
    name: str, folder: Path, facts: Mapping[str, Any], size: tuple[int, int] | None
) -> TrainedModel:
    segmenter = segmenter_module.load(folder, {"input_size": size or facts.get("size")})
    classes = checkpoint.read_config(folder).get("classes")
    return TrainedModel(
        name, segmenter, classes or [f"class {k}" for k in range(segmenter.num_classes)]
    )


def _check_size(size: tuple[int, int]) -> None:
    rows, columns = size
    if min(size) < MIN_SIDE or rows * columns > segmenter_module.MAX_PIXELS:
        raise ValueError(
            f"--size {rows} {columns}: a network sees {MIN_SIDE} rows and columns at least,"
            f" {segmenter_module.MAX_PIXELS} pixels at most; leave it out for the size of the evaluation"
        )


def _champion_uri() -> str:
    from pipeline.tracking.registry import ModelRegistry

    another = "or name a model, for example `--model data/train/ce-0`"
    try:
        champion = ModelRegistry().get_by_alias(store.CHAMPION)
    except ValueError as mistake:
        raise ValueError(f"{mistake}; {another}") from None
    if champion is None:
        raise ValueError(
            f"there is no champion yet: `python -m pipeline promote` chooses one; {another}"
        )
    return f"{_MODELS_URI}{store.MODEL_NAME}/{champion.version}"


def _read_config(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise ValueError(
            f"there is no folder {folder}: name {store.CHAMPION}, the folder of a trained model, or"
            f" {_MODELS_URI}... as MLflow shows it"
        )
    return checkpoint.read_config(folder)
