"""SegFormer (arXiv:2105.15203) as a library; the public names are imported on first use."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segformer.model.segformer import SegFormer
    from segformer.model.variants import VARIANTS
    from segformer.weights.checkpoint import load, save

__all__ = ["VARIANTS", "SegFormer", "load", "save"]

_LAZY_MODULES = {
    "SegFormer": "segformer.model.segformer",
    "VARIANTS": "segformer.model.variants",
    "load": "segformer.weights.checkpoint",
    "save": "segformer.weights.checkpoint",
}


def __getattr__(name: str) -> Any:
    # Lazy: reading the label table imports no torch and makes no stage depend on the network.
    if name == "serving":  # what the code inside earlier logged models calls segmenter
        return import_module("segformer.segmenter")
    if name not in _LAZY_MODULES:
        raise AttributeError(f"module 'segformer' has no attribute {name!r}")
    return getattr(import_module(_LAZY_MODULES[name]), name)
