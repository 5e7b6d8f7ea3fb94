"""Loads the weights of DINO's Vision Transformers: Hugging Face's files and the original ones.

A layer of a file is one of ours, or a third of the stacked query, key and value.
"""

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from segformer.vit.model import VisionTransformer
from segformer.vit.variants import VARIANTS, VitVariant, get_variant
from segformer.weights.checkpoint import describe_mismatches, load_tensors
from segformer.weights.tensor_files import check_tensors, load_stored

_BLOCK = "blocks.{n}."
_QUERY_KEY_VALUE = _BLOCK + "attention.query_key_value"


@dataclass(frozen=True)
class VitFormat:
    """A naming scheme.

    Attributes:
        name: of the format, for messages.
        embeddings: from our two embeddings to the names in a file.
        layers: from our layers, `{n}` the block, to the layers in a file, in the order stacked.
        ignored: prefixes of ignored names: heads, which a Vision Transformer alone does not have.
    """

    name: str
    embeddings: Mapping[str, str]
    layers: Mapping[str, tuple[str, ...]]
    ignored: tuple[str, ...]

    @property
    def patch(self) -> str:
        """The name of the patch embedding's weight in a file of the format."""
        return f"{self.layers['patch'][0]}.weight"

    def find_sources(self, depth: int) -> dict[str, tuple[str, ...]]:
        """Map each of our tensors to the tensors in a file that it is stacked from."""
        sources: dict[str, tuple[str, ...]] = {
            ours: (theirs,) for ours, theirs in self.embeddings.items()
        }
        for ours, theirs in self.layers.items():
            for n in range(depth if "{n}" in ours else 1):
                for kind in ("weight", "bias"):
                    sources[f"{ours}.{kind}".format(n=n)] = tuple(
                        f"{layer}.{kind}".format(n=n) for layer in theirs
                    )
        return sources


def _name_layers(names: Mapping[str, str], stacked: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    return {_QUERY_KEY_VALUE: stacked} | {ours: (theirs,) for ours, theirs in names.items()}


_ORIGINAL = VitFormat(
    name="original DINO",
    embeddings={"cls_token": "cls_token", "positions": "pos_embed"},
    layers=_name_layers(
        {
            "patch": "patch_embed.proj",
            _BLOCK + "attention_norm": "blocks.{n}.norm1",
            _BLOCK + "attention.output": "blocks.{n}.attn.proj",
            _BLOCK + "feed_forward_norm": "blocks.{n}.norm2",
            _BLOCK + "widen": "blocks.{n}.mlp.fc1",
            _BLOCK + "narrow": "blocks.{n}.mlp.fc2",
            "norm": "norm",
        },
        ("blocks.{n}.attn.qkv",),
    ),
    ignored=("head.",),
)

_HUGGING_FACE_EMBEDDINGS = {
    "cls_token": "embeddings.cls_token",
    "positions": "embeddings.position_embeddings",
}
_HUGGING_FACE_HEADS = ("pooler.dense.", "classifier.")

_HUGGING_FACE = VitFormat(
    name="Hugging Face",
    embeddings=_HUGGING_FACE_EMBEDDINGS,
    layers=_name_layers(
        {
            "patch": "embeddings.patch_embeddings.projection",
            _BLOCK + "attention_norm": "encoder.layer.{n}.layernorm_before",
            _BLOCK + "attention.output": "encoder.layer.{n}.attention.output.dense",
            _BLOCK + "feed_forward_norm": "encoder.layer.{n}.layernorm_after",
            _BLOCK + "widen": "encoder.layer.{n}.intermediate.dense",
            _BLOCK + "narrow": "encoder.layer.{n}.output.dense",
            "norm": "layernorm",
        },
        tuple(f"encoder.layer.{{n}}.attention.attention.{k}" for k in ("query", "key", "value")),
    ),
    ignored=_HUGGING_FACE_HEADS,
)

# transformers 5 writes the names above; its `state_dict()` has these.
_HUGGING_FACE_MEMORY = VitFormat(
    name="Hugging Face in memory",
    embeddings=_HUGGING_FACE_EMBEDDINGS,
    layers=_name_layers(
        {
            "patch": "embeddings.patch_embeddings.projection",
            _BLOCK + "attention_norm": "layers.{n}.layernorm_before",
            _BLOCK + "attention.output": "layers.{n}.attention.o_proj",
            _BLOCK + "feed_forward_norm": "layers.{n}.layernorm_after",
            _BLOCK + "widen": "layers.{n}.mlp.fc1",
            _BLOCK + "narrow": "layers.{n}.mlp.fc2",
            "norm": "layernorm",
        },
        tuple(f"layers.{{n}}.attention.{k}_proj" for k in "qkv"),
    ),
    ignored=_HUGGING_FACE_HEADS,
)

FORMATS = (_ORIGINAL, _HUGGING_FACE, _HUGGING_FACE_MEMORY)


def load_vit(path: Path | str, name: str | None = None) -> VisionTransformer:
    """Load a Vision Transformer, in evaluation mode, on the CPU.

    Read are a .safetensors or .bin file of transformers, with or without the prefix `vit.`; the
    original .pth; and the original's full checkpoint, of which the teacher is used. Ignored are
    only, by name: the pooler, the classifier and DINO's head. No code in the file is ever run.

    Args:
        path: of the file.
        name: one of `variants.VARIANTS`; None for the variant of the file.

    Raises:
        ValueError: for an unknown name, a file that cannot be read or contains another variant, and
            tensors that are unknown, missing or of another shape; the message has their names.
    """
    path = Path(path)
    requested = None if name is None else get_variant(name)
    # Full checkpoints keep the arguments of the training; a Namespace runs no code.
    with torch.serialization.safe_globals([Namespace]):
        stored = load_stored(path)
    tensors = _strip_prefixes(check_tensors(_select_teacher(stored), path))
    form, variant = _detect(tensors, path)
    if requested not in (None, variant):
        raise ValueError(
            f"{path}: weights of {variant.name}, but {name} is requested; choose the same for both"
        )
    with torch.device("meta"):
        model = VisionTransformer(variant)
    model.to_empty(device="cpu")  # every tensor is loaded: random numbers would take seconds
    load_tensors(model, _rename(tensors, form, model, path), str(path))
    return model.eval()


def _select_teacher(stored: Any) -> Any:
    """The network that DINO publishes (its section 3.1); the student has the same names."""
    return stored["teacher"] if isinstance(stored, Mapping) and "teacher" in stored else stored


def _strip_prefixes(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    def strip(name: str) -> str:
        return name.removeprefix("module.").removeprefix("backbone.").removeprefix("vit.")

    return {strip(name): tensor for name, tensor in tensors.items()}


def _detect(tensors: Mapping[str, Tensor], path: Path) -> tuple[VitFormat, VitVariant]:
    """Return the format and variant of a file by the name and shape of its patch embedding."""
    for form in FORMATS:
        # The two formats of Hugging Face differ within the blocks only.
        first = form.layers[_BLOCK + "attention_norm"][0].format(n=0) + ".weight"
        if form.patch not in tensors or first not in tensors:
            continue
        shape = tuple(tensors[form.patch].shape)
        for variant in VARIANTS.values():
            if shape == (variant.width, 3, variant.patch, variant.patch):
                return form, variant
        raise ValueError(
            f"{path}: {form.patch} is {shape}, which belongs to none of {', '.join(VARIANTS)};"
            " give a file of one of them"
        )
    names = ", ".join(list(tensors)[:3]) or "none"
    formats = ", ".join(form.name for form in FORMATS)
    raise ValueError(
        f"{path}: not a Vision Transformer (first tensors: {names}); known formats: {formats}"
    )


def _rename(
    tensors: Mapping[str, Tensor], form: VitFormat, model: VisionTransformer, path: Path
) -> dict[str, Tensor]:
    """Return the tensors with our names; the message of an error has those of the file."""
    sources = form.find_sources(model.variant.depth)
    expected: dict[str, Tensor] = {}
    for ours, tensor in model.state_dict().items():
        pieces = tensor.chunk(len(sources[ours]))
        expected.update(zip(sources[ours], pieces, strict=True))
    used = {name: t for name, t in tensors.items() if not name.startswith(form.ignored)}
    mismatches = describe_mismatches(expected, used)
    if mismatches:
        raise ValueError(
            f"{path}: read as {form.name} {model.variant.name}: {mismatches};"
            " download the file again"
        )
    return {ours: torch.cat([used[name] for name in names]) for ours, names in sources.items()}
