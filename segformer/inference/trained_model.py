"""A trained network with its name, its inference settings and its classes."""

from dataclasses import dataclass

from segformer.inference.predictor import Predictor


@dataclass(frozen=True)
class TrainedModel:
    """A model in memory.

    Attributes:
        name: its reference, for messages.
        predictor: the network with its inference settings.
        classes: their names, in the order of train ids.
    """

    name: str
    predictor: Predictor
    classes: list[str]
