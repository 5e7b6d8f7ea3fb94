from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import ViTForImageClassification, ViTModel

from segformer.vit.variants import VARIANTS, VitVariant
from segformer.vit.weights import load_vit
from tests.segformer.vit.reference import build_config, build_reference

TINY = VitVariant("tiny", patch=16, width=24, depth=2, heads=3)
IMAGES = torch.randn(1, 3, 32, 48, generator=torch.Generator().manual_seed(0))

Tensors = dict[str, Tensor]


@pytest.fixture(autouse=True)
def _tiny_variant(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fifth variant, small enough to be stored in many formats."""
    monkeypatch.setitem(VARIANTS, "tiny", TINY)


@pytest.fixture(scope="module")
def reference() -> ViTModel:
    """Transformers' network of the tiny variant."""
    return build_reference(TINY, seed=1)


def to_original(reference: ViTModel) -> Tensors:
    """The weights with the names of DINO's repository."""
    theirs = reference.state_dict()
    tensors = {
        "cls_token": theirs["embeddings.cls_token"],
        "pos_embed": theirs["embeddings.position_embeddings"],
    }
    for kind in ("weight", "bias"):
        tensors[f"patch_embed.proj.{kind}"] = theirs[
            f"embeddings.patch_embeddings.projection.{kind}"
        ]
        tensors[f"norm.{kind}"] = theirs[f"layernorm.{kind}"]
        for n in range(TINY.depth):
            layer, block = f"layers.{n}", f"blocks.{n}"
            tensors[f"{block}.attn.qkv.{kind}"] = torch.cat(
                [theirs[f"{layer}.attention.{name}_proj.{kind}"] for name in "qkv"]
            )
            for original, name in (
                ("norm1", "layernorm_before"),
                ("attn.proj", "attention.o_proj"),
                ("norm2", "layernorm_after"),
                ("mlp.fc1", "mlp.fc1"),
                ("mlp.fc2", "mlp.fc2"),
            ):
                tensors[f"{block}.{original}.{kind}"] = theirs[f"{layer}.{name}.{kind}"]
    return tensors


def write_stored(reference: ViTModel, folder: Path) -> Path:
    """What transformers writes, as the files on the hub: with a pooler, as safetensors."""
    stored = ViTModel(build_config(TINY))
    stored.load_state_dict(reference.state_dict(), strict=False)
    stored.save_pretrained(folder)
    return folder / "model.safetensors"


def write_classifier(reference: ViTModel, folder: Path) -> Path:
    """What transformers writes for a classifier: the prefix `vit.`, and a head."""
    stored = ViTForImageClassification(build_config(TINY))
    stored.vit.load_state_dict(reference.state_dict())
    stored.save_pretrained(folder)
    return folder / "model.safetensors"


def write_memory(reference: ViTModel, folder: Path) -> Path:
    """The state dict of transformers 5, with names of its own."""
    torch.save(reference.state_dict(), folder / "pytorch_model.bin")
    return folder / "pytorch_model.bin"


def write_original(reference: ViTModel, folder: Path) -> Path:
    """DINO's backbone."""
    torch.save(to_original(reference), folder / "dino.pth")
    return folder / "dino.pth"


def write_full_checkpoint(reference: ViTModel, folder: Path) -> Path:
    """DINO's full checkpoint: student, teacher with its head, and the training's arguments."""
    teacher = {f"backbone.{name}": tensor for name, tensor in to_original(reference).items()}
    teacher["head.mlp.0.weight"] = torch.zeros(8, 24)
    student = {f"module.{name}": torch.zeros_like(tensor) for name, tensor in teacher.items()}
    stored = {"student": student, "teacher": teacher, "epoch": 300, "args": Namespace(lr=1e-3)}
    torch.save(stored, folder / "checkpoint.pth")
    return folder / "checkpoint.pth"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "write",
    [write_stored, write_classifier, write_memory, write_original, write_full_checkpoint],
)
def test_every_format_gives_the_same_network(
    write: Callable[[ViTModel, Path], Path], reference: ViTModel, tmp_path: Path
) -> None:
    """The variant is detected, and the hidden states are transformers', in evaluation mode."""
    model = load_vit(write(reference, tmp_path))
    assert model.variant is TINY
    assert not model.training
    with torch.no_grad():
        expected = reference(IMAGES, interpolate_pos_encoding=True).last_hidden_state
        torch.testing.assert_close(model(IMAGES), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("blocks.1.norm2.bias"), "missing: blocks.1.norm2.bias"),
        (lambda t: t.update({"dist_token": t["cls_token"]}), "unknown: dist_token"),
        (
            lambda t: t.update({"pos_embed": t["pos_embed"][:, :5]}),
            r"of another shape: pos_embed \(1, 5, 24\) instead of \(1, 197, 24\)",
        ),
        (lambda t: t.update({"patch_embed.proj.weight": torch.zeros(24, 3, 14, 14)}), "14, 14"),
        (lambda t: t.pop("patch_embed.proj.weight"), "not a Vision Transformer"),
    ],
)
def test_tensors_that_do_not_fit_are_named(
    change: Callable[[Tensors], object], message: str, reference: ViTModel, tmp_path: Path
) -> None:
    """The message has the file and the names of its tensors."""
    tensors = to_original(reference)
    change(tensors)
    torch.save(tensors, tmp_path / "dino.pth")
    with pytest.raises(ValueError, match=rf"dino\.pth: .*{message}"):
        load_vit(tmp_path / "dino.pth")


def test_another_variant_is_refused(reference: ViTModel, tmp_path: Path) -> None:
    """A file of another variant than the requested one is an error that names both."""
    path = write_original(reference, tmp_path)
    with pytest.raises(ValueError, match="weights of tiny, but dino-vits8 is requested"):
        load_vit(path, "dino-vits8")


class Payload:
    """An object whose unpickling would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_no_code_is_run(tmp_path: Path) -> None:
    """A file that would run code is refused before it does."""
    torch.save({"cls_token": Payload(tmp_path / "created")}, tmp_path / "dino.pth")
    with pytest.raises(ValueError, match="could run code"):
        load_vit(tmp_path / "dino.pth")
    assert not (tmp_path / "created").exists()


def test_a_missing_file(tmp_path: Path) -> None:
    """The message has the path."""
    with pytest.raises(ValueError, match=r"dino\.pth: not found"):
        load_vit(tmp_path / "dino.pth")
