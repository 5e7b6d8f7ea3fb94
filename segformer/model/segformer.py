"""SegFormer: the Mix Transformer encoder and the all-MLP decoder."""

from torch import Tensor, nn

from segformer.cityscapes import NUM_CLASSES
from segformer.model.decoder import MlpDecoder
from segformer.model.encoder import Encoder
from segformer.model.layers import NORM_EPS
from segformer.model.variants import get_variant


class SegFormer(nn.Module):
    """SegFormer for semantic segmentation of images of 29x29 pixels or more.

    Args:
        variant: b0 to b5.
        num_classes: k.
        decoder_width: channels within the decoder; None for the width of the variant.
        drop_path: rate of the last encoder block; it rises linearly with depth from 0.
        dropout: rate before the classifier.
        norm_eps: LayerNorm epsilon; change it only to compare with another implementation.

    Raises:
        ValueError: for an unknown variant or a value that is out of range.
    """

    def __init__(
        self,
        variant: str = "b0",
        num_classes: int = NUM_CLASSES,
        *,
        decoder_width: int | None = None,
        drop_path: float = 0.1,
        dropout: float = 0.1,
        norm_eps: float = NORM_EPS,
    ) -> None:
        super().__init__()
        size = get_variant(variant)
        self.variant = variant
        self.num_classes = num_classes
        self.decoder_width = size.decoder_width if decoder_width is None else decoder_width
        self.norm_eps = norm_eps
        _check(num_classes, self.decoder_width, drop_path=drop_path, dropout=dropout)
        self.encoder = Encoder(size, drop_path=drop_path, norm_eps=norm_eps)
        self.decoder = MlpDecoder(size.widths, self.decoder_width, num_classes, dropout=dropout)

    def forward(self, images: Tensor) -> Tensor:
        """(b, 3, H, W) normalized -> (b, k, ceil(H / 4), ceil(W / 4)) scores before any softmax."""
        scores: Tensor = self.decoder(self.encoder(images))
        return scores


def _check(num_classes: int, decoder_width: int, **rates: float) -> None:
    for name, count in (("num_classes", num_classes), ("decoder_width", decoder_width)):
        if count < 1:
            raise ValueError(f"{name} is {count}; it must be 1 or more")
    for name, rate in rates.items():
        if not 0 <= rate < 1:
            raise ValueError(f"{name} is {rate}; it must be at least 0 and less than 1")
