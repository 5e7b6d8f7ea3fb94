"""A trained model as a folder of two files: `model.safetensors` and a readable `config.json`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from segformer.atomic import replacing
from segformer.cityscapes import CLASS_NAMES, NUM_CLASSES
from segformer.model.segformer import SegFormer

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
_ARCHITECTURE = ("variant", "num_classes", "decoder_width", "norm_eps")


def save(model: SegFormer, folder: Path | str, **facts: Any) -> None:
    """Write a model's weights and what is known about it; equal models give equal bytes.

    Args:
        model: on any device, in any memory format.
        folder: made if it is missing; files of the same names are replaced.
        facts: more entries for config.json, JSON values; `classes` replaces Cityscapes' names.

    Raises:
        ValueError: if a fact bears the name of an entry that the model itself decides.
    """
    folder = Path(folder)
    taken = sorted(set(facts) & set(_ARCHITECTURE))
    if taken:
        raise ValueError(
            f"config.json: {', '.join(taken)} come from the model; name the facts otherwise"
        )
    config = {name: getattr(model, name) for name in _ARCHITECTURE}
    config["classes"] = list(CLASS_NAMES) if model.num_classes == NUM_CLASSES else None
    text = json.dumps(config | facts, indent=2) + "\n"
    tensors = {
        name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()
    }
    # Both are whole before the first takes its place.
    with replacing(folder / CONFIG) as config_part, replacing(folder / WEIGHTS) as weights_part:
        config_part.write_text(text, encoding="utf-8")
        save_file(tensors, weights_part, metadata={"format": "pt"})


def read_config(folder: Path) -> dict[str, Any]:
    """Everything in config.json: what describes the network, `classes`, and the saver's facts.

    Raises:
        ValueError: if the file is missing, is no JSON object, or lacks what describes the network.
    """
    path = folder / CONFIG
    try:
        config: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: not found; give a folder written by segformer.save") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as mistake:
        raise ValueError(f"{path}: no JSON ({mistake}); save the model again") from None
    if not isinstance(config, dict):
        raise ValueError(f"{path}: no JSON object; save the model again")
    missing = [name for name in _ARCHITECTURE if name not in config]
    if missing:
        raise ValueError(f"{path}: {', '.join(missing)} missing; save the model again")
    return config


def load(
    folder: Path | str, device: torch.device | str = "cpu", *, num_classes: int | None = None
) -> SegFormer:
    """Load the model that `save` wrote, in evaluation mode.

    Args:
        folder: with model.safetensors and config.json.
        device: where to put it.
        num_classes: how many classes it must have; None for any number.

    Raises:
        ValueError: if a file is missing or damaged, the number of classes differs, or tensors do
            not fit; it names them.
    """
    folder = Path(folder)
    config = read_config(folder)
    if num_classes is not None and config["num_classes"] != num_classes:
        raise ValueError(
            f"{folder}: the model has {config['num_classes']} classes, but {num_classes} are needed:"
            f" train with num_classes={num_classes}"
        )
    path = folder / WEIGHTS
    try:
        tensors = load_file(path)
    except FileNotFoundError:
        raise ValueError(f"{path}: not found; give a folder written by segformer.save") from None
    except SafetensorError as mistake:
        raise ValueError(f"{path}: damaged ({mistake}); save or fetch the model again") from None
    model = SegFormer(**{name: config[name] for name in _ARCHITECTURE})
    load_tensors(model, tensors, str(path))
    return model.to(device).eval()


def load_tensors(module: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Give a module all of its weights and buffers, and nothing else.

    Raises:
        ValueError: naming the tensors that are unknown, missing or of another shape; the module
            is then unchanged.
    """
    mistakes = describe_mismatches(module.state_dict(), tensors)
    if mistakes:
        raise ValueError(f"{source}: {mistakes}; use weights of this very network")
    module.load_state_dict(dict(tensors))


def describe_mismatches(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    """How two sets of tensors differ, naming them all; empty if names and shapes agree."""
    kinds = {
        "unknown": [name for name in found if name not in expected],
        "missing": [name for name in expected if name not in found],
        "of another shape": [
            f"{name} {tuple(found[name].shape)} for {tuple(tensor.shape)}"
            for name, tensor in expected.items()
            if name in found and found[name].shape != tensor.shape
        ],
    }
    return "; ".join(f"{kind}: {', '.join(names)}" for kind, names in kinds.items() if names)
