"""SegFormer (arXiv:2105.15203) as a library; the names below load on first use."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segformer.checkpoint import load, save
    from segformer.model import SegFormer
    from segformer.variants import VARIANTS

__all__ = ["VARIANTS", "SegFormer", "load", "save"]

_LAZY_MODULES = {
    "SegFormer": "segformer.model",
    "VARIANTS": "segformer.variants",
    "load": "segformer.checkpoint",
    "save": "segformer.checkpoint",
}


def __getattr__(name: str) -> Any:
    # Lazy: who reads the label table imports no torch, and no stage depends on the network by it.
    if name not in _LAZY_MODULES:
        raise AttributeError(f"module 'segformer' has no attribute {name!r}")
    return getattr(import_module(_LAZY_MODULES[name]), name)
