"""How MLflow loads a logged model: the library's, with a request's errors raised as MLflow's.

A copy of this file lies beside segformer/ in every logged model: it imports nothing else of ours.
"""

from typing import Any

import numpy as np
from mlflow.exceptions import MlflowException
from numpy.typing import NDArray

from segformer.segmenter import Segmenter, load


class PyfuncModel:
    """A model whose ValueError is an MlflowException: for others the server sends a traceback."""

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter

    def predict(self, model_input: Any) -> NDArray[np.uint8]:
        """Base64 texts of b PNGs or JPEGs of one size -> (b, h, w) uint8, a train id per pixel."""
        try:
            return self._segmenter.predict(model_input)
        except ValueError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None


def _load_pyfunc(path: str, model_config: dict[str, Any] | None = None) -> PyfuncModel:
    """Load what `segformer.weights.checkpoint.save` wrote into `path`; MLflow calls this by name."""
    return PyfuncModel(load(path, model_config))
