"""SegFormer (arXiv:2105.15203) as a library; the names below load on first use."""

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
    # Lazy: who reads the label table imports no torch, and no stage depends on the network by it.
    if name not in _LAZY_MODULES:
        raise AttributeError(f"module 'segformer' has no attribute {name!r}")
    return getattr(import_module(_LAZY_MODULES[name]), name)
