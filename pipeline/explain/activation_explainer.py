"""Explains a photograph by the activation of a class."""

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.explain.explainer import Explanation, find_classes, prepare_input
from pipeline.explain.maps import HeadMaps
from pipeline.explain.queries import ClassQuery, Query
from pipeline.explain.scale import ColorScale, fit_linear_scale
from segformer.explain.class_activation import Method, class_activation
from segformer.inference.segment import eval_mode
from segformer.inference.trained_model import TrainedModel


class ActivationExplainer:
    """Class activation: places that matter for the score of a class in its own pixels.

    Args:
        model: a trained model; windows, scales and mirroring of its inference are left out.
        query: the class, and the region: its predicted pixels.
        method: how it is computed.

    Attributes:
        As `Explainer`.

    Raises:
        ValueError: for a class that the model does not have, or a query that is none.
    """

    def __init__(self, model: TrainedModel, query: Query, method: Method) -> None:
        if not isinstance(query, ClassQuery):
            raise ValueError(
                "class activation explains the score of a class: give --query class:NAME, for"
                " example class:car"
            )
        self._model = model
        self._class_id = query.find_class(model.classes)
        self._method = method
        label = "Grad-CAM" if method == "grad_cam" else "input gradient"
        name = model.classes[self._class_id]
        self.names: tuple[str, ...] = (label,)
        self.title = f"Places that resemble the pixels of class {name}"
        if method == "input_gradient":
            self.title = f"Pixels that the score of class {name} is sensitive to"
        self.subtitle = f"{model.name}, {label}"

    def explain(self, photograph: NDArray[np.uint8]) -> Explanation:
        """See `Explainer.explain`."""
        network = self._model.predictor.network
        pixels = prepare_input(self._model, photograph)
        with eval_mode(network):
            scores = network(pixels[None])[0]
        classes = find_classes(scores, (pixels.shape[1], pixels.shape[2]))
        region = classes == self._class_id
        if not region.any():
            name = self._model.classes[self._class_id]
            return Explanation(None, None, classes, f"no {name} here")
        values = class_activation(
            network, pixels, torch.from_numpy(region), self._class_id, method=self._method
        )
        rows, columns = (
            side * (4 if self._method == "grad_cam" else 1) / whole
            for side, whole in zip(values.shape, region.shape, strict=True)
        )
        maps = HeadMaps(values[None].cpu().numpy(), (rows, columns))
        return Explanation(maps, region, classes)

    def fit_scale(self, values: NDArray[np.float32]) -> ColorScale:
        """See `Explainer.fit_scale`."""
        return fit_linear_scale(values, self._unit)

    def make_scale(self, limit: float) -> ColorScale:
        """See `Explainer.make_scale`."""
        return ColorScale(limit, self._unit, is_ratio=False)

    @property
    def _unit(self) -> str:
        return "score per position" if self._method == "grad_cam" else "score per unit of input"
