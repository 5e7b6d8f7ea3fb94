"""Read weights in the formats of other SegFormer implementations.

The tensor names of each format are in `key_names`. Missing and unknown tensors are errors and are
never skipped silently.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from segformer.cityscapes import NUM_CLASSES
from segformer.model.decoder import MlpDecoder
from segformer.model.encoder import Encoder
from segformer.model.segformer import SegFormer
from segformer.model.variants import VARIANTS, get_variant
from segformer.weights.checkpoint import describe_mismatches, load_tensors
from segformer.weights.key_names import FORMATS, Format, from_format, to_format
from segformer.weights.tensor_files import check_tensors, load_stored

__all__ = ["Weights", "load_encoder", "load_model", "read"]

Tensors = dict[str, Tensor]

_IMAGENET_CLASSES = 1000


@dataclass(frozen=True)
class Weights:
    """The weights in a file, with our names.

    Attributes:
        format: name of the format; one of `key_names.FORMATS`.
        variant: b0 to b5.
        encoder: tensors of an Encoder.
        decoder: tensors of an MlpDecoder without `norm.num_batches_tracked`; None if the file has
            no decoder.
    """

    format: str
    variant: str
    encoder: Tensors
    decoder: Tensors | None


def read(path: Path | str) -> Weights:
    """Read a .safetensors, .pth, .pt or .bin file in any of the known formats.

    Ignored are only, by name: a head of 1000 classes, the `decode_head.conv_seg` of the original
    (which never uses it), `num_batches_tracked`, and the `decode_head` of mmsegmentation, which is
    another function than our decoder. No code in the file is ever run.

    Raises:
        ValueError: if the file cannot be read, contains more than tensors, is of no known format,
            or has tensors that are unknown, missing or of another shape; the message has their
            names in the file.
    """
    path = Path(path)
    stored = check_tensors(load_stored(path), path)
    form, variant = _detect_format(stored, path)
    stored = {
        name: tensor for name, tensor in stored.items() if not _is_ignored(name, tensor, form)
    }
    has_decoder = bool(form.decoder) and any(
        name.startswith(form.decoder_prefix) for name in stored
    )
    expected = _expected_tensors(form, variant, stored if has_decoder else None)
    shaped = {
        name: tensor.reshape(expected[name].shape)
        if _shape_matches(name, tensor, expected)
        else tensor
        for name, tensor in stored.items()
    }
    mismatches = describe_mismatches(expected, shaped)
    if mismatches:
        raise ValueError(
            f"{path}: read as {form.name} {variant}: {mismatches}; download the file again"
        )
    ours = from_format(shaped, form, get_variant(variant).depths)
    return Weights(
        form.name,
        variant,
        _select_prefix("encoder.", ours),
        _select_prefix("decoder.", ours) or None,
    )


def load_encoder(encoder: Encoder, path: Path | str) -> str:
    """Load all weights of an encoder from a file; return the name of its format.

    Raises:
        ValueError: as `read`, and for a file of another variant.
    """
    weights = read(path)
    _check_variant(weights, encoder.variant.name, path)
    load_tensors(encoder, weights.encoder, str(path))
    return weights.format


def load_model(model: SegFormer, path: Path | str) -> str:
    """Load all weights of a model from a file; return the name of its format.

    Raises:
        ValueError: as `read`, and for a file without a decoder, of another variant, or with another
            number of classes or decoder width.
    """
    weights = read(path)
    _check_variant(weights, model.variant, path)
    if weights.decoder is None:
        raise ValueError(
            f"{path}: {weights.format} file without a decoder of this architecture; "
            "use load_encoder, or weights of a whole SegFormer"
        )
    count = {"norm.num_batches_tracked": torch.tensor(0)}
    tensors = _add_prefix("encoder.", weights.encoder) | _add_prefix(
        "decoder.", weights.decoder | count
    )
    load_tensors(model, tensors, str(path))
    return weights.format


def _detect_format(stored: Tensors, path: Path) -> tuple[Format, str]:
    """Return the format and variant with the most matching tensors, then the fewest missing."""

    def count_matches(candidate: tuple[Format, str]) -> tuple[int, int]:
        expected = _expected_tensors(*candidate, None)
        matches = sum(_shape_matches(name, stored.get(name), expected) for name in expected)
        return matches, -len(expected)

    best = max(((form, name) for form in FORMATS for name in VARIANTS), key=count_matches)
    if count_matches(best)[0] == 0:
        names = ", ".join(list(stored)[:3]) or "none"
        formats = ", ".join(form.name for form in FORMATS)
        raise ValueError(
            f"{path}: not a SegFormer (first tensors: {names}); known formats: {formats}"
        )
    return best


def _expected_tensors(form: Format, variant: str, stored: Tensors | None) -> Tensors:
    """Return meta tensors with the names and shapes of a file of this format and variant.

    Without `stored` there is no decoder, else one of the width and number of classes in `stored`.
    """
    encoder, size = _expected_encoder(form, variant), get_variant(variant)
    if stored is None:
        return encoder
    bias = stored.get(form.find_name("decoder.classify.bias", size.depths))
    norm = stored.get(form.find_name("decoder.norm.weight", size.depths))
    num_classes = NUM_CLASSES if bias is None else bias.numel()
    width = size.decoder_width if norm is None else norm.numel()
    with torch.device("meta"):
        decoder = MlpDecoder(size.widths, width, num_classes).state_dict()
    return encoder | to_format(_add_prefix("decoder.", decoder), form, size.depths)


@cache
def _expected_encoder(form: Format, variant: str) -> Tensors:
    ours = _add_prefix("encoder.", _encoder_shapes(variant))
    return to_format(ours, form, get_variant(variant).depths)


@cache
def _encoder_shapes(variant: str) -> Tensors:
    with torch.device("meta"):
        return Encoder(get_variant(variant)).state_dict()


def _shape_matches(name: str, tensor: Tensor | None, expected: Tensors) -> bool:
    """Return whether a tensor has the expected shape; a linear may be a 1x1 convolution."""
    if tensor is None or name not in expected:
        return False
    shape, expected_shape = tuple(tensor.shape), tuple(expected[name].shape)
    return expected_shape in (shape, (*shape, 1, 1)) or shape == (*expected_shape, 1, 1)


def _is_ignored(name: str, tensor: Tensor, form: Format) -> bool:
    if name in (f"{form.head}.weight", f"{form.head}.bias"):
        return tensor.shape[:1] == (_IMAGENET_CLASSES,)
    return name.endswith(".num_batches_tracked") or name.startswith(form.ignored)


def _check_variant(weights: Weights, variant: str, path: Path | str) -> None:
    if weights.variant != variant:
        raise ValueError(
            f"{path}: weights of variant {weights.variant}, but the network is {variant}; "
            "choose the same variant for both"
        )


def _add_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> Tensors:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def _select_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> Tensors:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
