"""Tensor names of each SegFormer format: one table per format, used in both directions.

A piece is one of our tensors, except that keys and values are two pieces. In the tables, `{s}` is
the stage (and the decoder's scale) from 0, `{t}` the same from 1, `{n}` the block from 0.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

Table = Mapping[str, tuple[str, ...]]

_BLOCK = "stages.{s}.blocks.{n}."
_PATCH, _PATCH_NORM = "stages.{s}.patch.projection", "stages.{s}.patch.norm"
_STAGE_NORM = "stages.{s}.norm"
_ATTENTION_NORM, _FEED_FORWARD_NORM = _BLOCK + "attention_norm", _BLOCK + "feed_forward_norm"
_QUERY, _OUTPUT = _BLOCK + "attention.query", _BLOCK + "attention.output"
_KEY, _VALUE, _KEY_VALUE = (_BLOCK + f"attention.{name}" for name in ("key", "value", "key_value"))
_REDUCTION, _REDUCTION_NORM = _BLOCK + "attention.reduction", _BLOCK + "attention.reduction_norm"
_WIDEN, _NARROW = _BLOCK + "feed_forward.widen", _BLOCK + "feed_forward.narrow"
_NEIGHBORS = _BLOCK + "feed_forward.neighbours"
_ENCODER_SUFFIXES = ("weight", "bias")
_DECODER_SUFFIXES = (*_ENCODER_SUFFIXES, "running_mean", "running_var")


@dataclass(frozen=True, eq=False)  # compared by identity, and so hashable
class Format:
    """A naming scheme.

    Attributes:
        name: of the format, for messages.
        encoder: from a layer of the format to the pieces of our encoder stacked in it.
        decoder: likewise; empty if the format has no decoder, or none like ours.
        decoder_prefix: prefix of the decoder's names.
        head: the layer that is ignored if it is an ImageNet classifier.
        ignored: prefixes of ignored names.
    """

    name: str
    encoder: Table
    decoder: Table = field(default_factory=dict)
    decoder_prefix: str = "decode_head."
    head: str = ""
    ignored: tuple[str, ...] = ()

    def iter_tensors(self, depths: Sequence[int]) -> Iterator[tuple[str, list[str]]]:
        """Yield every tensor name of the format with its pieces, for stages of these depths."""
        for layer, pieces in self.encoder.items():
            for s, depth in enumerate(depths):
                for n in range(depth if "{n}" in layer else 1):
                    yield from _expand_layer(layer, pieces, "encoder.", (s, n), _ENCODER_SUFFIXES)
        for layer, pieces in self.decoder.items():
            for s in range(len(depths) if "{" in layer else 1):
                yield from _expand_layer(layer, pieces, "decoder.", (s, 0), _DECODER_SUFFIXES)

    def find_name(self, piece: str, depths: Sequence[int]) -> str:
        """Return the tensor name of the format that contains a piece."""
        return next(name for name, pieces in self.iter_tensors(depths) if piece in pieces)


def to_format(ours: Mapping[str, Tensor], form: Format, depths: Sequence[int]) -> dict[str, Tensor]:
    """Rename our tensors, prefixed by `encoder.` or `decoder.`, to a format."""
    pieces: dict[str, Tensor] = {}
    for name, tensor in ours.items():
        parts = _split_key_value(name)
        pieces.update(
            zip(parts, tensor.chunk(len(parts)) if len(parts) > 1 else [tensor], strict=True)
        )
    return {
        name: torch.cat([pieces[part] for part in parts]) if len(parts) > 1 else pieces[parts[0]]
        for name, parts in form.iter_tensors(depths)
        if parts[0] in pieces
    }


def from_format(
    theirs: Mapping[str, Tensor], form: Format, depths: Sequence[int]
) -> dict[str, Tensor]:
    """The inverse of `to_format`; `theirs` must be complete."""
    pieces: dict[str, Tensor] = {}
    for name, parts in form.iter_tensors(depths):
        if name in theirs:
            pieces.update(zip(parts, theirs[name].chunk(len(parts)), strict=True))
    ours: dict[str, list[Tensor]] = {}
    for part, tensor in pieces.items():
        ours.setdefault(_join_key_value(part), []).append(tensor)
    return {name: torch.cat(parts) if len(parts) > 1 else parts[0] for name, parts in ours.items()}


def _expand_layer(
    layer: str,
    pieces: Sequence[str],
    prefix: str,
    position: tuple[int, int],
    suffixes: Sequence[str],
) -> Iterator[tuple[str, list[str]]]:
    stage, block = position
    counts = {"s": stage, "t": stage + 1, "n": block}
    dot = "" if layer.endswith("_") else "."
    for suffix in suffixes:
        parts = [f"{prefix}{piece.format(**counts)}.{suffix}" for piece in pieces]
        yield f"{layer.format(**counts)}{dot}{suffix}", parts


def _split_key_value(name: str) -> list[str]:
    if ".key_value." not in name:
        return [name]
    return [name.replace(".key_value.", f".{piece}.") for piece in ("key", "value")]


def _join_key_value(piece: str) -> str:
    return piece.replace(".key.", ".key_value.").replace(".value.", ".key_value.")


def _add_prefix(prefix: str, table: Table) -> Table:
    return {prefix + layer: pieces for layer, pieces in table.items()}


def _remove_prefix(prefix: str, table: Table) -> Table:
    return {layer.removeprefix(prefix): pieces for layer, pieces in table.items()}


_OURS = {
    piece: (piece,)
    for piece in (
        *(_PATCH, _PATCH_NORM, _STAGE_NORM, _ATTENTION_NORM, _FEED_FORWARD_NORM, _QUERY, _OUTPUT),
        *(_REDUCTION, _REDUCTION_NORM, _WIDEN, _NARROW, _NEIGHBORS),
    )
} | {_KEY_VALUE: (_KEY, _VALUE)}

_OURS_DECODER = {piece: (piece,) for piece in ("unify.{s}", "mix", "norm", "classify")}

_ORIGINAL = {
    "patch_embed{t}.proj": (_PATCH,),
    "patch_embed{t}.norm": (_PATCH_NORM,),
    "block{t}.{n}.norm1": (_ATTENTION_NORM,),
    "block{t}.{n}.attn.q": (_QUERY,),
    "block{t}.{n}.attn.kv": (_KEY, _VALUE),
    "block{t}.{n}.attn.proj": (_OUTPUT,),
    "block{t}.{n}.attn.sr": (_REDUCTION,),
    "block{t}.{n}.attn.norm": (_REDUCTION_NORM,),
    "block{t}.{n}.norm2": (_FEED_FORWARD_NORM,),
    "block{t}.{n}.mlp.fc1": (_WIDEN,),
    "block{t}.{n}.mlp.dwconv.dwconv": (_NEIGHBORS,),
    "block{t}.{n}.mlp.fc2": (_NARROW,),
    "norm{t}": (_STAGE_NORM,),
}

_ORIGINAL_DECODER = {
    "decode_head.linear_c{t}.proj": ("unify.{s}",),
    "decode_head.linear_fuse.conv": ("mix",),
    "decode_head.linear_fuse.bn": ("norm",),
    "decode_head.linear_pred": ("classify",),
}

_HUGGING_FACE = {
    "segformer.encoder.patch_embeddings.{s}.proj": (_PATCH,),
    "segformer.encoder.patch_embeddings.{s}.layer_norm": (_PATCH_NORM,),
    "segformer.encoder.block.{s}.{n}.layer_norm_1": (_ATTENTION_NORM,),
    "segformer.encoder.block.{s}.{n}.attention.self.query": (_QUERY,),
    "segformer.encoder.block.{s}.{n}.attention.self.key": (_KEY,),
    "segformer.encoder.block.{s}.{n}.attention.self.value": (_VALUE,),
    "segformer.encoder.block.{s}.{n}.attention.output.dense": (_OUTPUT,),
    "segformer.encoder.block.{s}.{n}.attention.self.sr": (_REDUCTION,),
    "segformer.encoder.block.{s}.{n}.attention.self.layer_norm": (_REDUCTION_NORM,),
    "segformer.encoder.block.{s}.{n}.layer_norm_2": (_FEED_FORWARD_NORM,),
    "segformer.encoder.block.{s}.{n}.mlp.dense1": (_WIDEN,),
    "segformer.encoder.block.{s}.{n}.mlp.dwconv.dwconv": (_NEIGHBORS,),
    "segformer.encoder.block.{s}.{n}.mlp.dense2": (_NARROW,),
    "segformer.encoder.layer_norm.{s}": (_STAGE_NORM,),
}

_HUGGING_FACE_DECODER = {
    "decode_head.linear_c.{s}.proj": ("unify.{s}",),
    "decode_head.linear_fuse": ("mix",),
    "decode_head.batch_norm": ("norm",),
    "decode_head.classifier": ("classify",),
}

_IN_MEMORY = {
    "segformer.stages.{s}.patch_embeddings.proj": (_PATCH,),
    "segformer.stages.{s}.patch_embeddings.layer_norm": (_PATCH_NORM,),
    "segformer.stages.{s}.blocks.{n}.layernorm_before": (_ATTENTION_NORM,),
    "segformer.stages.{s}.blocks.{n}.attention.q_proj": (_QUERY,),
    "segformer.stages.{s}.blocks.{n}.attention.k_proj": (_KEY,),
    "segformer.stages.{s}.blocks.{n}.attention.v_proj": (_VALUE,),
    "segformer.stages.{s}.blocks.{n}.attention.o_proj": (_OUTPUT,),
    "segformer.stages.{s}.blocks.{n}.attention.sequence_reduction.sequence_reduction": (
        _REDUCTION,
    ),
    "segformer.stages.{s}.blocks.{n}.attention.sequence_reduction.layer_norm": (_REDUCTION_NORM,),
    "segformer.stages.{s}.blocks.{n}.layernorm_after": (_FEED_FORWARD_NORM,),
    "segformer.stages.{s}.blocks.{n}.mlp.fc1": (_WIDEN,),
    "segformer.stages.{s}.blocks.{n}.mlp.dwconv.dwconv": (_NEIGHBORS,),
    "segformer.stages.{s}.blocks.{n}.mlp.fc2": (_NARROW,),
    "segformer.stages.{s}.layer_norm": (_STAGE_NORM,),
}

_IN_MEMORY_DECODER = {
    "decode_head.linear_projections.{s}.proj": ("unify.{s}",),
    "decode_head.linear_fuse": ("mix",),
    "decode_head.batch_norm": ("norm",),
    "decode_head.classifier": ("classify",),
}

_MMSEGMENTATION = {
    "layers.{s}.0.projection": (_PATCH,),
    "layers.{s}.0.norm": (_PATCH_NORM,),
    "layers.{s}.1.{n}.norm1": (_ATTENTION_NORM,),
    "layers.{s}.1.{n}.attn.attn.in_proj_": (_QUERY, _KEY, _VALUE),
    "layers.{s}.1.{n}.attn.attn.out_proj": (_OUTPUT,),
    "layers.{s}.1.{n}.attn.sr": (_REDUCTION,),
    "layers.{s}.1.{n}.attn.norm": (_REDUCTION_NORM,),
    "layers.{s}.1.{n}.norm2": (_FEED_FORWARD_NORM,),
    "layers.{s}.1.{n}.ffn.layers.0": (_WIDEN,),
    "layers.{s}.1.{n}.ffn.layers.1": (_NEIGHBORS,),
    "layers.{s}.1.{n}.ffn.layers.4": (_NARROW,),
    "layers.{s}.2": (_STAGE_NORM,),
}

HUGGING_FACE = Format("Hugging Face", _HUGGING_FACE, _HUGGING_FACE_DECODER, head="classifier")

FORMATS = (
    Format(
        "ours", _add_prefix("encoder.", _OURS), _add_prefix("decoder.", _OURS_DECODER), "decoder."
    ),
    Format("our encoder", _OURS),
    Format(
        "original",
        _add_prefix("backbone.", _ORIGINAL),
        _ORIGINAL_DECODER,
        ignored=("decode_head.conv_seg.",),
    ),
    Format("original ImageNet", _ORIGINAL, head="head"),
    HUGGING_FACE,
    Format("Hugging Face in memory", _IN_MEMORY, _IN_MEMORY_DECODER, head="classifier"),
    # A SegformerModel without a head.
    Format("Hugging Face encoder", _remove_prefix("segformer.", _HUGGING_FACE)),
    Format("Hugging Face encoder in memory", _remove_prefix("segformer.", _IN_MEMORY)),
    # Its decoder has a norm and a ReLU per scale: another function than ours.
    Format("mmsegmentation", _add_prefix("backbone.", _MMSEGMENTATION), ignored=("decode_head.",)),
    Format("mmsegmentation encoder", _MMSEGMENTATION),
)
