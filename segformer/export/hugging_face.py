"""Export to Hugging Face transformers: a folder that `from_pretrained` opens, with equal scores."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from segformer.atomic import replacing
from segformer.cityscapes import CLASS_NAMES, IGNORE, NUM_CLASSES
from segformer.data.packed_frames import MEAN, STD
from segformer.model.layers import NORM_EPS
from segformer.model.segformer import SegFormer
from segformer.model.variants import (
    EXPANSION,
    HEADS,
    MIN_SIDE,
    PATCH_KERNELS,
    PATCH_STRIDES,
    REDUCTIONS,
    get_variant,
)
from segformer.weights.key_names import HUGGING_FACE, to_format

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
PREPROCESSOR = "preprocessor_config.json"

_BILINEAR = 2  # Pillow's constant, which the preprocessor file contains


def write_hugging_face(
    model: SegFormer,
    folder: Path | str,
    *,
    size: tuple[int, int],
    classes: Sequence[str] | None = None,
) -> None:
    """Write a folder for `SegformerForSemanticSegmentation.from_pretrained`, with equal scores.

    `AutoImageProcessor.from_pretrained` of the folder resizes every image to `size`. The size
    matters: with another one, as in some of the hub's own files, a model of 76.2 mIoU scored 58.

    Args:
        model: on any device, in any memory format.
        folder: created if missing; files of the three names are replaced.
        size: rows and columns of the images in training, in pixels.
        classes: names of the k classes; None for those of Cityscapes if k is 19, else LABEL_0, ...

    Raises:
        ValueError: if the size or the names do not fit the model, if transformers does not support
            its LayerNorm epsilon, or if the folder contains a model in another format.
    """
    folder = Path(folder)
    names = _class_names(model.num_classes, classes)
    _check(model, folder, size)
    # All files are complete before the first is renamed.
    with (
        replacing(folder / PREPROCESSOR) as preprocessor_part,
        replacing(folder / CONFIG) as config_part,
        replacing(folder / WEIGHTS) as weights_part,
    ):
        preprocessor_part.write_text(_to_json(_preprocessor(size)), encoding="utf-8")
        config_part.write_text(_to_json(_config(model, names)), encoding="utf-8")
        save_file(_rename_tensors(model), weights_part, metadata={"format": "pt"})


def _class_names(num_classes: int, classes: Sequence[str] | None) -> list[str]:
    if classes is None and num_classes == NUM_CLASSES:
        return list(CLASS_NAMES)
    names = [f"LABEL_{k}" for k in range(num_classes)] if classes is None else list(classes)
    if len(names) != num_classes or len(set(names)) != num_classes:
        raise ValueError(
            f"classes: {len(set(names))} different names for a model of {num_classes} classes;"
            " give one unique name per class"
        )
    return names


def _check(model: SegFormer, folder: Path, size: tuple[int, int]) -> None:
    if len(size) != 2 or min(size) < MIN_SIDE:
        raise ValueError(f"size is {size}; give rows and columns, {MIN_SIDE} pixels or more each")
    if model.norm_eps != NORM_EPS:
        # Its configuration has layer_norm_eps, but no release so far uses it.
        raise ValueError(
            f"norm_eps is {model.norm_eps}, but transformers runs every LayerNorm with {NORM_EPS},"
            f" which changes the scores; give a model with norm_eps={NORM_EPS}"
        )
    config = folder / CONFIG
    # Two files of segformer.save have the same names.
    if config.exists() and b'"model_type": "segformer"' not in config.read_bytes():
        raise ValueError(f"{folder}: contains a model in another format; give another folder")


def _rename_tensors(model: SegFormer) -> dict[str, Tensor]:
    ours, depths = model.state_dict(), get_variant(model.variant).depths
    theirs = to_format(ours, HUGGING_FACE, depths)
    norm = HUGGING_FACE.find_name("decoder.norm.weight", depths).removesuffix("weight")
    theirs[f"{norm}num_batches_tracked"] = ours["decoder.norm.num_batches_tracked"]
    return {name: tensor.detach().cpu().contiguous() for name, tensor in theirs.items()}


def _config(model: SegFormer, names: Sequence[str]) -> dict[str, Any]:
    size = get_variant(model.variant)
    return {
        "architectures": ["SegformerForSemanticSegmentation"],
        "model_type": "segformer",
        "dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
        "num_channels": 3,
        "num_encoder_blocks": len(size.depths),
        "depths": size.depths,
        "hidden_sizes": size.widths,
        "num_attention_heads": HEADS,
        "sr_ratios": REDUCTIONS,
        "patch_sizes": PATCH_KERNELS,
        "strides": PATCH_STRIDES,
        "mlp_ratios": [EXPANSION] * len(size.depths),
        "hidden_act": "gelu",
        "layer_norm_eps": model.norm_eps,
        "drop_path_rate": _drop_path(model),
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "classifier_dropout_prob": model.decoder.dropout.p,
        "decoder_hidden_size": model.decoder_width,
        "reshape_last_stage": True,
        "semantic_loss_ignore_index": IGNORE,
        "id2label": {str(k): name for k, name in enumerate(names)},
        "label2id": {name: k for k, name in enumerate(names)},
    }


def _drop_path(model: SegFormer) -> float:
    last: Any = model.encoder.stages[-1]
    return float(last.blocks[-1].drop_path.rate)


def _preprocessor(size: tuple[int, int]) -> dict[str, Any]:
    return {
        "image_processor_type": "SegformerImageProcessor",
        "do_resize": True,
        "size": {"height": size[0], "width": size[1]},
        "resample": _BILINEAR,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": MEAN,
        "image_std": STD,
        "do_reduce_labels": False,  # class 0 is the road, not a background to ignore
    }


def _to_json(values: dict[str, Any]) -> str:
    return json.dumps(values, indent=2) + "\n"
