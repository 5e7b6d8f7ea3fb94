import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import SegformerConfig, SegformerModel

from segformer.model.encoder import Encoder
from segformer.model.segformer import SegFormer
from segformer.model.variants import VARIANTS, get_variant
from segformer.weights.interop import load_encoder, load_model, read
from segformer.weights.key_names import FORMATS as TABLES
from segformer.weights.key_names import to_format

LISTS = Path(__file__).parent.parent / "state_dicts"
FORMATS = {
    "original_full_b0": "original",
    "original_imagenet_b0": "original ImageNet",
    "hugging_face_stored_b0": "Hugging Face",
    "hugging_face_mit_b0": "Hugging Face",
    "hugging_face_memory_b0": "Hugging Face in memory",
    "mmsegmentation_encoder_b0": "mmsegmentation encoder",
}
WHOLE = ("original_full_b0", "hugging_face_stored_b0", "hugging_face_memory_b0")


def random_tensors(name: str) -> dict[str, Tensor]:
    """A checkpoint as written by the source called `name`, with random numbers."""
    generator = torch.Generator().manual_seed(0)
    shapes = json.loads((LISTS / f"{name}.json").read_text())
    return {key: torch.rand(shape, generator=generator) for key, shape in shapes.items()}


@pytest.mark.parametrize("name", FORMATS)
def test_every_source_is_recognized_and_read_completely(name: str, tmp_path: Path) -> None:
    """Format and variant are detected, and exactly our tensors are returned."""
    torch.save({"state_dict": random_tensors(name)}, tmp_path / "weights.pth")
    weights = read(tmp_path / "weights.pth")
    with torch.device("meta"):
        model = SegFormer("b0")
    assert (FORMATS[name], "b0") == (weights.format, weights.variant)
    assert set(model.encoder.state_dict()) == set(weights.encoder)
    if name in WHOLE:
        expected = set(model.decoder.state_dict()) - {"norm.num_batches_tracked"}
        assert expected == set(weights.decoder)
    else:
        assert weights.decoder is None


@pytest.mark.parametrize("name", WHOLE)
def test_load_model_loads_every_tensor(name: str, tmp_path: Path) -> None:
    """After loading, the model has the numbers of the file, in any storage format."""
    tensors = random_tensors(name)
    save_file(tensors, tmp_path / "weights.safetensors")
    model = SegFormer("b0")
    assert FORMATS[name] == load_model(model, tmp_path / "weights.safetensors")
    # The same multiset of numbers: equal sums over everything but what may be left out.
    dropped = ("conv_seg", "num_batches_tracked")
    expected = sum(
        t.double().sum() for key, t in tensors.items() if not any(d in key for d in dropped)
    )
    actual = sum(t.double().sum() for key, t in model.state_dict().items() if "tracked" not in key)
    torch.testing.assert_close(expected, actual)


def test_keys_and_values_are_stacked_in_order(tmp_path: Path) -> None:
    """Keys come first in our joined layer, from files with separate and with joined ones."""
    apart, joined = (
        random_tensors("hugging_face_stored_b0"),
        random_tensors("mmsegmentation_encoder_b0"),
    )
    torch.save(apart, tmp_path / "apart.bin")
    torch.save(joined, tmp_path / "joined.bin")
    place = "segformer.encoder.block.1.1.attention.self"
    ours = "stages.1.blocks.1.attention"
    actual = read(tmp_path / "apart.bin").encoder
    assert torch.equal(apart[f"{place}.key.bias"], actual[f"{ours}.key_value.bias"][:64])
    assert torch.equal(apart[f"{place}.value.bias"], actual[f"{ours}.key_value.bias"][64:])
    actual = read(tmp_path / "joined.bin").encoder
    stacked = joined["layers.1.1.1.attn.attn.in_proj_weight"]
    assert torch.equal(stacked[:64], actual[f"{ours}.query.weight"])
    assert torch.equal(stacked[64:], actual[f"{ours}.key_value.weight"])


def test_our_own_files_are_read_back(tmp_path: Path) -> None:
    """A whole model of ours and an encoder alone are formats too, and come back unchanged."""
    model = SegFormer("b1")
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    save_file(model.encoder.state_dict(), tmp_path / "encoder.safetensors")
    whole, part = read(tmp_path / "model.safetensors"), read(tmp_path / "encoder.safetensors")
    assert ("ours", "b1", "our encoder", "b1") == (
        whole.format,
        whole.variant,
        part.format,
        part.variant,
    )
    for name, tensor in model.encoder.state_dict().items():
        assert torch.equal(tensor, whole.encoder[name])
        assert torch.equal(tensor, part.encoder[name])


def test_other_widths_and_classes_are_read(tmp_path: Path) -> None:
    """The decoder's width and the number of classes are those of the file."""
    model = SegFormer("b0", 7, decoder_width=24)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    decoder = read(tmp_path / "model.safetensors").decoder
    assert decoder is not None
    assert (7, 24, 1, 1) == decoder["classify.weight"].shape


@pytest.mark.parametrize("name", FORMATS)
def test_mismatched_tensors_are_named_in_one_error(name: str, tmp_path: Path) -> None:
    """Unknown, missing and misshapen tensors are listed by their names in the file."""
    tensors = random_tensors(name)
    first, second = [key for key in tensors if key.endswith("norm.weight") or "norm1.w" in key][:2]
    tensors["stranger"] = tensors.pop(first)
    tensors[second] = torch.zeros(3)
    torch.save(tensors, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=r"weights\.pth: read as ") as caught:
        read(tmp_path / "weights.pth")
    assert f"unknown: stranger; missing: {first}; of another shape: {second} (3,)" in str(
        caught.value
    )


def test_head_without_1000_classes_is_not_ignored(tmp_path: Path) -> None:
    """Only ImageNet's head is ignored; another head is an unknown tensor."""
    tensors = random_tensors("original_imagenet_b0")
    tensors["head.weight"] = tensors["head.weight"][:10]
    torch.save(tensors, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=r"unknown: head\.weight"):
        read(tmp_path / "weights.pth")


def test_decoder_of_mmsegmentation_is_ignored(tmp_path: Path) -> None:
    """Its decoder is another function: the encoder is read, and a whole model is refused."""
    encoder = random_tensors("mmsegmentation_encoder_b0")
    tensors = {f"backbone.{key}": tensor for key, tensor in encoder.items()}
    tensors["decode_head.convs.0.conv.weight"] = torch.zeros(256, 32, 1, 1)
    torch.save({"state_dict": tensors}, tmp_path / "weights.pth")
    assert "mmsegmentation" == load_encoder(Encoder(get_variant("b0")), tmp_path / "weights.pth")
    with pytest.raises(ValueError, match="without a decoder of this architecture"):
        load_model(SegFormer("b0"), tmp_path / "weights.pth")


def test_another_variant_is_refused(tmp_path: Path) -> None:
    """The ValueError names both variants, and the encoder is unchanged."""
    save_file(SegFormer("b1").state_dict(), tmp_path / "model.safetensors")
    encoder = Encoder(get_variant("b0"))
    before = encoder.stages[0].norm.weight.clone()
    with pytest.raises(ValueError, match="weights of variant b1, but the network is b0"):
        load_encoder(encoder, tmp_path / "model.safetensors")
    assert torch.equal(before, encoder.stages[0].norm.weight)


def test_state_dict_of_another_network_is_refused(tmp_path: Path) -> None:
    """The ValueError lists the known formats."""
    torch.save({"conv1.weight": torch.zeros(2)}, tmp_path / "weights.pth")
    with pytest.raises(
        ValueError, match=r"not a SegFormer \(first tensors: conv1.weight\); known.*ours"
    ):
        read(tmp_path / "weights.pth")


class MaliciousPickle:
    """An object whose pickle creates a folder when loaded."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        """The function that the unpickler calls."""
        return os.mkdir, (str(self.trace),)


def write_malicious_file(path: Path, trace: Path, file_format: str) -> None:
    """Write a checkpoint with malicious code, as an old or new PyTorch file, or by hand."""
    content = {"state_dict": {"norm1.weight": torch.ones(32)}, "meta": MaliciousPickle(trace)}
    if file_format == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=file_format == "zip")


# PyTorch warns of a pickle of another version than it writes itself, and then refuses it.
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("file_format", ["zip", "legacy", "pickle"])
@pytest.mark.parametrize("name", ["weights.pth", "weights.bin", "weights.pt"])
def test_malicious_pickle_is_refused(name: str, file_format: str, tmp_path: Path) -> None:
    """A pickle that runs code when loaded is a ValueError, and its code does not run."""
    path, trace = tmp_path / name, tmp_path / "trace"
    write_malicious_file(path, trace, file_format)
    with pytest.raises(
        ValueError, match=rf"{name}: cannot be read .* give a \.safetensors file"
    ) as caught:
        read(path)
    assert not trace.exists()
    assert "weights_only" not in str(caught.value)  # PyTorch advises to open it all the same
    # The file is malicious: loading it unsafely runs its code.
    if file_format == "pickle":
        pickle.loads(path.read_bytes())  # noqa: S301 - a file made by this test
    else:
        torch.load(path, weights_only=False)
    assert trace.exists()


def test_message_names_the_code_in_a_pickle(tmp_path: Path) -> None:
    """The message contains the name of the function."""
    write_malicious_file(tmp_path / "weights.pth", tmp_path / "trace", "zip")
    with pytest.raises(
        ValueError, match=r"it contains \w+\.mkdir, which is not a tensor and could run code"
    ):
        read(tmp_path / "weights.pth")


def test_metadata_beside_the_tensors_is_ignored(tmp_path: Path) -> None:
    """Texts, numbers and lists in `meta`, as in the original files, are skipped."""
    meta = {"config": "lr = 6e-5", "epoch": 1, "loss": 0.5, "CLASSES": ["road"], "seed": None}
    content = {"meta": meta, "state_dict": random_tensors("original_full_b0")}
    torch.save(content, tmp_path / "weights.pth")
    assert "original" == read(tmp_path / "weights.pth").format


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_is_detected_in_every_format(variant: str, tmp_path: Path) -> None:
    """Format and variant are detected, and each tensor is mapped to the right one."""
    with torch.device("meta"):
        shapes = SegFormer(variant).state_dict()
    shapes.pop("decoder.norm.num_batches_tracked")
    # A number of its own fills each tensor, and only that number is stored.
    ours = {
        name: torch.tensor(float(i)).expand(t.shape) for i, (name, t) in enumerate(shapes.items())
    }
    for form in TABLES:
        torch.save(to_format(ours, form, get_variant(variant).depths), tmp_path / "weights.pth")
        weights = read(tmp_path / "weights.pth")
        assert (form.name, variant) == (weights.format, weights.variant)
        for name, tensor in weights.encoder.items():
            assert ours[f"encoder.{name}"].shape == tensor.shape
            last = (-1,) * tensor.ndim
            assert ours[f"encoder.{name}"][last] == tensor[last]


def test_error_names_all_missing_tensors(tmp_path: Path) -> None:
    """However many tensors are missing, each is named."""
    tensors = random_tensors("original_imagenet_b0")
    missing = [name for name in tensors if name.startswith("block3.")]
    torch.save({n: t for n, t in tensors.items() if n not in missing}, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match="missing") as caught:
        read(tmp_path / "weights.pth")
    assert 12 < len(missing)
    assert [] == [name for name in missing if name not in str(caught.value)]


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kept", [0, 18, 300, -1])
def test_truncated_file_is_refused(kept: int, zipped: bool, tmp_path: Path) -> None:
    """A partial download is a ValueError that names the file."""
    path = tmp_path / "weights.pth"
    torch.save({"a": torch.zeros(99, 99)}, path, _use_new_zipfile_serialization=zipped)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"weights\.pth: cannot be read"):
        read(path)


def test_folder_is_refused(tmp_path: Path) -> None:
    """A folder in place of a file is a ValueError."""
    with pytest.raises(ValueError, match=r"cannot be read .*Is a directory"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_damaged_and_missing_files_are_refused(name: str, tmp_path: Path) -> None:
    """Random bytes and a wrong path are ValueErrors that name the file."""
    with pytest.raises(ValueError, match=f"{name}: not found"):
        read(tmp_path / name)
    (tmp_path / name).write_bytes(b"rubbish")
    with pytest.raises(ValueError, match=f"{name}: cannot be read"):
        read(tmp_path / name)


def test_path_may_be_a_string(tmp_path: Path) -> None:
    """`read` accepts the paths that `open` accepts."""
    save_file(Encoder(get_variant("b0")).state_dict(), tmp_path / "weights.safetensors")
    assert "our encoder" == read(str(tmp_path / "weights.safetensors")).format


@pytest.mark.parametrize(
    "unknown",
    [
        {3: torch.zeros(1)},
        {"a": torch.zeros(2, 2).to_sparse()},
        {"norm1.weight": torch.zeros(32, dtype=torch.int64)},
    ],
    ids=["number for a name", "sparse", "integers"],
)
def test_values_that_are_no_weights_are_refused(
    unknown: dict[object, Tensor], tmp_path: Path
) -> None:
    """Names are strings, weights dense floating-point tensors; the message names all others."""
    torch.save(unknown, tmp_path / "weights.pth")
    (name,) = unknown
    with pytest.raises(
        ValueError, match=f"not dense floating-point tensors: {name}; give a state dict"
    ):
        read(tmp_path / "weights.pth")


@pytest.mark.parametrize("file_format", ["stored", "in memory"])
def test_model_without_a_head_is_read(file_format: str, tmp_path: Path) -> None:
    """A file of transformers' `SegformerModel`, or its state dict, is an encoder."""
    theirs = SegformerModel(SegformerConfig())  # a B0
    path = tmp_path / "model.safetensors"
    if file_format == "stored":
        theirs.save_pretrained(tmp_path)
    else:
        save_file(theirs.state_dict(), path)
    encoder = Encoder(get_variant("b0"))
    assert "encoder" in load_encoder(encoder, path)
    weight = theirs.state_dict()["stages.1.blocks.0.attention.q_proj.weight"]
    assert torch.equal(weight, encoder.stages[1].blocks[0].attention.query.weight)
