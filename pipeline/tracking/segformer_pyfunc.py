"""The loader of a logged model: `segformer.segmenter`, with errors of a request as MLflow's.

MLflow copies this file beside segformer/ into every logged model: it imports nothing else of the
project.
"""

from typing import Any

import numpy as np
from mlflow.exceptions import MlflowException
from numpy.typing import NDArray

from segformer.segmenter import Segmenter, load


class PyfuncModel:
    """Raises ValueError as MlflowException; for other errors MLflow's server sends a traceback.

    Args:
        segmenter: the model.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter

    def predict(self, model_input: Any) -> NDArray[np.uint8]:
        """Base64 texts of b PNGs or JPEGs of one size -> (b, h, w) uint8, a train id per pixel.

        Raises:
            MlflowException: with status 400, as `Segmenter.predict` raises ValueError.
        """
        try:
            return self._segmenter.predict(model_input)
        except ValueError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None


def _load_pyfunc(path: str, model_config: dict[str, Any] | None = None) -> PyfuncModel:
    """Load a folder that `segformer.weights.checkpoint.save` wrote; MLflow calls this by name."""
    return PyfuncModel(load(path, model_config))
