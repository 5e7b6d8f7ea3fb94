import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from segformer.cityscapes import CLASS_NAMES
from segformer.model.segformer import SegFormer
from segformer.weights.checkpoint import load, read_config, save


def small_model(num_classes: int = 19) -> SegFormer:
    """A B0 with a narrow decoder and batch statistics that are not the initial ones."""
    torch.manual_seed(0)
    model = SegFormer("b0", num_classes, decoder_width=8, norm_eps=1e-6)
    torch.nn.init.normal_(model.decoder.norm.running_mean)
    return model


def test_loaded_model_gives_equal_scores(tmp_path: Path) -> None:
    """After save and load the scores are equal bit for bit, and the model is in evaluation mode."""
    model, images = small_model(), torch.randn(1, 3, 32, 64)
    save(model, tmp_path)
    loaded = load(tmp_path)
    assert not loaded.training
    assert torch.equal(model.eval()(images), loaded(images))


def test_config_has_architecture_classes_and_facts(tmp_path: Path) -> None:
    """config.json contains the architecture, the class names and the given facts."""
    save(small_model(), tmp_path, loss="ce", seed=3)
    assert {
        "variant": "b0",
        "num_classes": 19,
        "decoder_width": 8,
        "norm_eps": 1e-6,
        "classes": list(CLASS_NAMES),
        "loss": "ce",
        "seed": 3,
    } == read_config(tmp_path)


def test_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    """Saving twice, in another memory format, writes equal files and leaves nothing else."""
    model = small_model()
    save(model, tmp_path / "one", seed=1)
    save(model.to(memory_format=torch.channels_last), tmp_path / "two", seed=1)
    first, second = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
        for name in ("one", "two")
    )
    assert {"model.safetensors", "config.json"} == set(first)
    assert first == second


def test_failed_save_keeps_the_old_files(tmp_path: Path) -> None:
    """The old files are unchanged if the new ones cannot be written."""
    save(small_model(), tmp_path, seed=1)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(TypeError):
        save(small_model(), tmp_path, seed=object())
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


def test_facts_cannot_override_the_architecture(tmp_path: Path) -> None:
    """A fact with the name of an architecture entry is a ValueError."""
    with pytest.raises(ValueError, match="variant"):
        save(small_model(), tmp_path, variant="b5")


def test_mismatched_tensors_are_named(tmp_path: Path) -> None:
    """Missing, unknown and misshapen tensors are all in one error."""
    save(small_model(), tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["decoder.norm.bias"]
    tensors["decoder.extra"] = torch.zeros(1)
    tensors["decoder.classify.bias"] = torch.zeros(7)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(
        ValueError,
        match=r"unknown: decoder\.extra; missing: decoder\.norm\.bias; "
        r"of another shape: decoder\.classify\.bias \(7,\) instead of \(19,\)",
    ):
        load(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_missing_file_is_named(tmp_path: Path, name: str) -> None:
    """A folder without one of the two files is a ValueError that names the file."""
    save(small_model(), tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ValueError, match=f"{name}: not found"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_damaged_file_is_named(tmp_path: Path, name: str) -> None:
    """A truncated file is a ValueError that names the file."""
    save(small_model(), tmp_path)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:20])
    with pytest.raises(ValueError, match=name):
        load(tmp_path)


def test_incomplete_config_is_refused(tmp_path: Path) -> None:
    """A config without the whole architecture is a ValueError that names the missing entries."""
    save(small_model(), tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"variant": "b0", "num_classes": 19}))
    with pytest.raises(ValueError, match="missing entries: decoder_width, norm_eps"):
        read_config(tmp_path)


def test_models_for_other_classes_have_no_cityscapes_names(tmp_path: Path) -> None:
    """Class names are null unless the model has as many classes as Cityscapes."""
    save(small_model(num_classes=3), tmp_path)
    assert read_config(tmp_path)["classes"] is None
