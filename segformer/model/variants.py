"""The six variants of SegFormer, b0 to b5: arXiv:2105.15203, with two misprints corrected."""

from dataclasses import dataclass

HEADS = (1, 2, 5, 8)
"""Attention heads of each stage, the same in every variant."""

REDUCTIONS = (8, 4, 2, 1)
"""Sequence reduction of keys and values along rows and along columns, by stage."""

PATCH_KERNELS = (7, 3, 3, 3)
PATCH_STRIDES = (4, 2, 2, 2)

MIN_SIDE = 29
"""Minimum rows and columns of an image: with fewer the first stage has less than one key."""

EXPANSION = 4
"""Hidden width of the Mix-FFN over its width; the paper misprints it for some stages."""


@dataclass(frozen=True)
class Variant:
    """Widths and depths of the four stages, and the width of the decoder."""

    name: str
    widths: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]
    decoder_width: int


_SMALL = (32, 64, 160, 256)
_LARGE = (64, 128, 320, 512)

VARIANTS: dict[str, Variant] = {
    variant.name: variant
    for variant in (
        Variant("b0", _SMALL, (2, 2, 2, 2), 256),
        Variant("b1", _LARGE, (2, 2, 2, 2), 256),
        Variant("b2", _LARGE, (3, 4, 6, 3), 768),
        Variant("b3", _LARGE, (3, 4, 18, 3), 768),
        Variant("b4", _LARGE, (3, 8, 27, 3), 768),
        Variant("b5", _LARGE, (3, 6, 40, 3), 768),
    )
}


def get_variant(name: str) -> Variant:
    """Return the variant called `name`.

    Raises:
        ValueError: for an unknown name.
    """
    if name not in VARIANTS:
        raise ValueError(f"unknown variant {name!r}; choose from {', '.join(VARIANTS)}")
    return VARIANTS[name]
