"""SegFormer (arXiv:2105.15203) for street scenes, as a library: the names below load on first use."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segformer.checkpoint import load, save
    from segformer.model import SegFormer
    from segformer.variants import VARIANTS

__all__ = ["VARIANTS", "SegFormer", "load", "save"]

_HOMES = {
    "SegFormer": "segformer.model",
    "VARIANTS": "segformer.variants",
    "load": "segformer.checkpoint",
    "save": "segformer.checkpoint",
}


def __getattr__(name: str) -> Any:
    # Lazy, so that reading the label table costs no import of torch and makes no stage depend on the network.
    if name not in _HOMES:
        raise AttributeError(f"module 'segformer' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
