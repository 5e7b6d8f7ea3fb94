"""Loads a trained model by reference: the champion, a folder, or a model in MLflow."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.tracking import store
from segformer.device import best_device
from segformer.images import MAX_PIXELS
from segformer.inference.predictor import Predictor
from segformer.inference.settings import InferenceSettings
from segformer.inference.trained_model import TrainedModel
from segformer.model.variants import MIN_SIDE
from segformer.weights import checkpoint

_MODELS_URI = "models:/"


def load_model(
    reference: str = store.CHAMPION, size: tuple[int, int] | None = None
) -> TrainedModel:
    """Load a model with the inference settings that it keeps.

    A model in MLflow keeps those of its evaluation: input size, windows, flip, scales and resize
    filter. A folder keeps those under `inference` in its config.json; without that entry it is used
    at the input size of its training.

    Args:
        reference: `champion`, a folder that `segformer.weights.checkpoint.save` wrote, or
            `models:/...` as MLflow shows it.
        size: rows and columns of the network's input; None: the size that the model keeps.

    Raises:
        ValueError: if there is no such model, it is damaged, or the size is impossible; if MLflow
            fails.
    """
    if size:
        _check_size(size)
    if reference == store.CHAMPION:
        reference = _champion_uri()
    if not reference.startswith(_MODELS_URI):
        folder = Path(reference)
        _check_folder(folder)
        settings = InferenceSettings.from_config(checkpoint.read_config(folder))
        return _load(reference, folder, settings, size)
    from pipeline.tracking import registry  # imports MLflow, which a folder does not need

    with TemporaryDirectory() as destination:
        folder, config = registry.download_model(reference, Path(destination))
        return _load(reference, folder, InferenceSettings.from_config(config), size)


def _load(
    name: str, folder: Path, settings: InferenceSettings, size: tuple[int, int] | None
) -> TrainedModel:
    network = checkpoint.load(folder, best_device())
    classes = checkpoint.read_config(folder).get("classes")
    return TrainedModel(
        name,
        Predictor(network, replace(settings, size=size) if size else settings),
        classes or [f"class {k}" for k in range(network.num_classes)],
    )


def _check_size(size: tuple[int, int]) -> None:
    rows, columns = size
    if min(size) < MIN_SIDE or rows * columns > MAX_PIXELS:
        raise ValueError(
            f"--size {rows} {columns}: choose at least {MIN_SIDE} rows and columns and at most"
            f" {MAX_PIXELS} pixels, or leave it out for the size kept with the model"
        )


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise ValueError(
            f"{folder} is not a folder: use {store.CHAMPION}, the folder of a trained model, or"
            f" {_MODELS_URI}... as MLflow shows it"
        )


def _champion_uri() -> str:
    from pipeline.tracking.registry import ModelRegistry  # imports MLflow

    alternative = "or name a model, for example `--model data/train/ce-0`"
    try:
        champion = ModelRegistry().get_by_alias(store.CHAMPION)
    except ValueError as error:
        raise ValueError(f"{error}; {alternative}") from None
    if champion is None:
        raise ValueError(
            f"there is no champion yet: `segformer promote` chooses one; {alternative}"
        )
    return f"{_MODELS_URI}{store.MODEL_NAME}/{champion.version}"
