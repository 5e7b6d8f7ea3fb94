"""The four Vision Transformers of DINO, arXiv:2104.14294, table 1."""

from dataclasses import dataclass

EXPANSION = 4
"""Hidden width of the feed-forward network over its width."""

TRAINING_SIDE = 224
"""Rows and columns of the images that DINO was trained on, in pixels."""


@dataclass(frozen=True)
class VitVariant:
    """The size of a Vision Transformer.

    Attributes:
        name: as on the Hugging Face hub, without `facebook/`.
        patch: rows and columns of a patch, in pixels.
        width: channels.
        depth: number of blocks.
        heads: attention heads of each block.
    """

    name: str
    patch: int
    width: int
    depth: int
    heads: int

    @property
    def side(self) -> int:
        """Rows and columns of the grid of learned positions."""
        return TRAINING_SIDE // self.patch


VARIANTS: dict[str, VitVariant] = {
    variant.name: variant
    for variant in (
        VitVariant("dino-vits16", patch=16, width=384, depth=12, heads=6),
        VitVariant("dino-vits8", patch=8, width=384, depth=12, heads=6),
        VitVariant("dino-vitb16", patch=16, width=768, depth=12, heads=12),
        VitVariant("dino-vitb8", patch=8, width=768, depth=12, heads=12),
    )
}


def get_variant(name: str) -> VitVariant:
    """Return the variant called `name`.

    Raises:
        ValueError: for an unknown name.
    """
    if name not in VARIANTS:
        raise ValueError(f"unknown variant {name!r}; choose from {', '.join(VARIANTS)}")
    return VARIANTS[name]
