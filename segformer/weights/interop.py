"""Weights in and out: read what others stored, whoever named it, and write what they can open.

The names are in `naming`. What a file lacks, or has beyond them, is an error and never passed over.
"""

import pickle
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from segformer.cityscapes import NUM_CLASSES
from segformer.model.decoder import MlpDecoder
from segformer.model.encoder import Encoder
from segformer.model.segformer import SegFormer
from segformer.model.variants import VARIANTS, get_variant
from segformer.weights.checkpoint import describe_mismatches, load_tensors
from segformer.weights.key_names import FORMATS, Format, from_format, to_format

__all__ = ["Weights", "load_encoder", "load_model", "read"]

Tensors = dict[str, Tensor]

_IMAGENET_CLASSES = 1000

# Rubbish can make the unpickler stumble at any opcode.
_LOAD_ERRORS = (
    *(SafetensorError, pickle.UnpicklingError, struct.error, RuntimeError, EOFError, OSError),
    *(LookupError, AttributeError, TypeError, ValueError, AssertionError, MemoryError),
)


@dataclass(frozen=True)
class Weights:
    """What a file holds, in our names.

    Attributes:
        format: who named it; one of `naming.FORMATS`.
        variant: b0 to b5.
        encoder: tensors of an Encoder.
        decoder: tensors of an MlpDecoder but `norm.num_batches_tracked`, or None if it has none.
    """

    format: str
    variant: str
    encoder: Tensors
    decoder: Tensors | None


def read(path: Path | str) -> Weights:
    """Read a .safetensors, .pth, .pt or .bin file in any of the known formats.

    Left out, by name: a head of 1000 classes, the `decode_head.conv_seg` of the original (which it
    never uses), `num_batches_tracked`, and the `decode_head` of mmsegmentation, which is another
    function than our decoder. Nothing else is. No code in the file is ever run.

    Raises:
        ValueError: if the file cannot be read, holds more than tensors, is of no known format, or
            has tensors that are unknown, missing or of another shape; it names them all, as the
            file does.
    """
    path = Path(path)
    found = _read_tensors(path)
    form, variant = _detect_format(found, path)
    found = {name: tensor for name, tensor in found.items() if not _is_ignored(name, tensor, form)}
    has_decoder = bool(form.decoder) and any(name.startswith(form.decoder_prefix) for name in found)
    expected = _expected_tensors(form, variant, found if has_decoder else None)
    shaped = {
        name: tensor.reshape(expected[name].shape)
        if _shape_matches(name, tensor, expected)
        else tensor
        for name, tensor in found.items()
    }
    mistakes = describe_mismatches(expected, shaped)
    if mistakes:
        raise ValueError(f"{path}: as {form.name} {variant}, {mistakes}; fetch the file again")
    ours = from_format(shaped, form, get_variant(variant).depths)
    return Weights(
        form.name,
        variant,
        _select_prefix("encoder.", ours),
        _select_prefix("decoder.", ours) or None,
    )


def load_encoder(encoder: Encoder, path: Path | str) -> str:
    """Give an encoder all of its weights from a file; returns the file's format.

    Raises:
        ValueError: as `read` does, and if the file holds another variant.
    """
    weights = read(path)
    _check_variant(weights, encoder.variant.name, path)
    load_tensors(encoder, weights.encoder, str(path))
    return weights.format


def load_model(model: SegFormer, path: Path | str) -> str:
    """Give a model all of its weights from a file; returns the file's format.

    Raises:
        ValueError: as `read` does, and if the file holds no decoder, another variant, or another
            number of classes or width of the decoder.
    """
    weights = read(path)
    _check_variant(weights, model.variant, path)
    if weights.decoder is None:
        raise ValueError(
            f"{path}: a {weights.format} file without a decoder of this kind; "
            "use load_encoder, or weights of a whole SegFormer"
        )
    count = {"norm.num_batches_tracked": torch.tensor(0)}
    tensors = _add_prefix("encoder.", weights.encoder) | _add_prefix(
        "decoder.", weights.decoder | count
    )
    load_tensors(model, tensors, str(path))
    return weights.format


def _read_tensors(path: Path) -> Tensors:
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        stored: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ValueError(f"{path}: not found; check the path") from None
    except _LOAD_ERRORS as mistake:
        raise ValueError(
            f"{path}: unreadable ({_reason(mistake)});"
            " give .safetensors, or a .pth or .bin of tensors only"
        ) from None
    stored = stored.get("state_dict", stored) if isinstance(stored, Mapping) else stored
    if not isinstance(stored, Mapping):
        raise ValueError(f"{path}: holds a {type(stored).__name__}; give a file of named tensors")
    others = [str(name) for name, value in stored.items() if not _is_weight(name, value)]
    if others:
        raise ValueError(
            f"{path}: no dense tensors of numbers with a point: {', '.join(others[:5])};"
            " give a state dict"
        )
    return dict(stored)


def _is_weight(name: object, value: object) -> bool:
    if not isinstance(name, str) or not isinstance(value, Tensor) or value.is_sparse:
        return False
    return value.is_floating_point() or name.endswith(".num_batches_tracked")


def _reason(mistake: BaseException) -> str:
    """In few words, and without PyTorch's advice to open the file all the same."""
    stranger = re.search(r"GLOBAL (\S+)", str(mistake))
    if stranger:
        return f"it holds {stranger[1]}, which is no tensor and could run code"
    return re.split(r"\. |\n", str(mistake) or type(mistake).__name__)[0]


def _detect_format(found: Tensors, path: Path) -> tuple[Format, str]:
    """The format and variant with the most tensors in common, and of those the least missing."""

    def agreement(candidate: tuple[Format, str]) -> tuple[int, int]:
        expected = _expected_tensors(*candidate, None)
        return sum(_shape_matches(name, found.get(name), expected) for name in expected), -len(
            expected
        )

    best = max(((form, name) for form in FORMATS for name in VARIANTS), key=agreement)
    if agreement(best)[0] == 0:
        names = ", ".join(list(found)[:3]) or "none"
        known = ", ".join(form.name for form in FORMATS)
        raise ValueError(f"{path}: no SegFormer (first tensors: {names}); known formats: {known}")
    return best


def _expected_tensors(form: Format, variant: str, found: Tensors | None) -> Tensors:
    """Tensors without data, named and shaped as a file of this format and variant has them.

    The decoder is left out without `found`, else as wide and for as many classes as it is there.
    """
    encoder, size = _expected_encoder(form, variant), get_variant(variant)
    if found is None:
        return encoder
    bias = found.get(form.find_name("decoder.classify.bias", size.depths))
    norm = found.get(form.find_name("decoder.norm.weight", size.depths))
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
    """Whether a tensor is the expected one; a linear may be stored as a 1x1 convolution."""
    if tensor is None or name not in expected:
        return False
    shape, wanted = tuple(tensor.shape), tuple(expected[name].shape)
    return shape == wanted or shape == (*wanted, 1, 1) or (*shape, 1, 1) == wanted


def _is_ignored(name: str, tensor: Tensor, form: Format) -> bool:
    if name in (f"{form.head}.weight", f"{form.head}.bias"):
        return tensor.shape[:1] == (_IMAGENET_CLASSES,)
    return name.endswith(".num_batches_tracked") or name.startswith(form.ignored)


def _check_variant(weights: Weights, variant: str, path: Path | str) -> None:
    if weights.variant != variant:
        raise ValueError(
            f"{path}: holds a {weights.variant}, the network is a {variant}; "
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
