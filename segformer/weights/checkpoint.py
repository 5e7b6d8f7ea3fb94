"""Checkpoints: a trained model as a folder with `model.safetensors` and `config.json`."""

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
    """Save a model and its configuration; equal models give equal bytes.

    Args:
        model: on any device, in any memory format.
        folder: created if missing; files of the same names are replaced.
        facts: further entries of config.json, JSON values; `classes` replaces the Cityscapes names.

    Raises:
        ValueError: if a fact has the name of an entry that describes the architecture.
    """
    folder = Path(folder)
    reserved = sorted(set(facts) & set(_ARCHITECTURE))
    if reserved:
        raise ValueError(
            f"config.json: {', '.join(reserved)} are set by the model; use other names"
        )
    config = {name: getattr(model, name) for name in _ARCHITECTURE}
    config["classes"] = list(CLASS_NAMES) if model.num_classes == NUM_CLASSES else None
    text = json.dumps(config | facts, indent=2) + "\n"
    tensors = {
        name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()
    }
    # Both files are complete before the first is renamed.
    with replacing(folder / CONFIG) as config_part, replacing(folder / WEIGHTS) as weights_part:
        config_part.write_text(text, encoding="utf-8")
        save_file(tensors, weights_part, metadata={"format": "pt"})


def read_config(folder: Path) -> dict[str, Any]:
    """Read config.json: the architecture, `classes`, and the facts given to `save`.

    Raises:
        ValueError: if the file is missing, is not a JSON object, or has no complete architecture.
    """
    path = folder / CONFIG
    try:
        config: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: not found; give a folder written by segformer.save") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not JSON ({error}); save the model again") from None
    if not isinstance(config, dict):
        raise ValueError(f"{path}: not a JSON object; save the model again")
    missing = [name for name in _ARCHITECTURE if name not in config]
    if missing:
        raise ValueError(f"{path}: missing entries: {', '.join(missing)}; save the model again")
    return config


def load(
    folder: Path | str, device: torch.device | str = "cpu", *, num_classes: int | None = None
) -> SegFormer:
    """Load the model that `save` wrote, in evaluation mode.

    Args:
        folder: contains model.safetensors and config.json.
        device: of the model.
        num_classes: required number of classes; None for any number.

    Raises:
        ValueError: if a file is missing or damaged, the number of classes differs, or tensors do
            not fit; it names them.
    """
    folder = Path(folder)
    config = read_config(folder)
    if num_classes is not None and config["num_classes"] != num_classes:
        raise ValueError(
            f"{folder}: the model has {config['num_classes']} classes, but {num_classes} are"
            f" needed: train with num_classes={num_classes}"
        )
    path = folder / WEIGHTS
    try:
        tensors = load_file(path)
    except FileNotFoundError:
        raise ValueError(f"{path}: not found; give a folder written by segformer.save") from None
    except SafetensorError as error:
        raise ValueError(f"{path}: damaged ({error}); save or download the model again") from None
    model = SegFormer(**{name: config[name] for name in _ARCHITECTURE})
    load_tensors(model, tensors, str(path))
    return model.to(device).eval()


def load_tensors(module: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Load all weights and buffers of a module, strictly.

    Raises:
        ValueError: naming the tensors that are unknown, missing or of another shape; the module
            is unchanged.
    """
    mismatches = describe_mismatches(module.state_dict(), tensors)
    if mismatches:
        raise ValueError(f"{source}: {mismatches}; use weights of the same network")
    module.load_state_dict(dict(tensors))


def describe_mismatches(expected: Mapping[str, Tensor], actual: Mapping[str, Tensor]) -> str:
    """Describe how two sets of tensors differ, naming all; empty if names and shapes agree."""
    kinds = {
        "unknown": [name for name in actual if name not in expected],
        "missing": [name for name in expected if name not in actual],
        "of another shape": [
            f"{name} {tuple(actual[name].shape)} instead of {tuple(tensor.shape)}"
            for name, tensor in expected.items()
            if name in actual and actual[name].shape != tensor.shape
        ],
    }
    return "; ".join(f"{kind}: {', '.join(names)}" for kind, names in kinds.items() if names)
