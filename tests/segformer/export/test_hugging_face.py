import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from transformers import AutoImageProcessor, SegformerForSemanticSegmentation
from transformers.utils import logging as transformers_logging

from segformer.cityscapes import CLASS_NAMES
from segformer.export.hugging_face import write_hugging_face
from segformer.model.segformer import SegFormer
from segformer.weights.checkpoint import load, save
from segformer.weights.interop import read

SIZE = (64, 128)
NAMES = Path(__file__).parent.parent / "state_dicts" / "hugging_face_stored_b0.json"


def random_model(variant: str = "b0", num_classes: int = 19, **parts: Any) -> SegFormer:
    """A model in evaluation mode with random norms, biases and batch statistics."""
    torch.manual_seed(0)
    model = SegFormer(variant, num_classes, **parts).eval()
    for parameter in model.parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter, std=0.5)
    nn.init.normal_(model.decoder.norm.running_mean)
    nn.init.uniform_(model.decoder.norm.running_var, 0.5, 2)
    return model


@pytest.fixture
def logged_warnings(caplog: pytest.LogCaptureFixture) -> Any:
    """The warnings that transformers logs; its progress bars are off."""
    transformers_logging.disable_progress_bar()
    logger = logging.getLogger("transformers")  # hands nothing on to the root, where pytest listens
    logger.addHandler(caplog.handler)
    yield lambda: [record.getMessage() for record in caplog.records if record.levelno >= 30]
    logger.removeHandler(caplog.handler)


@pytest.mark.parametrize(
    "model",
    [
        {},
        {"variant": "b1", "num_classes": 4, "decoder_width": 24},
        {"variant": "b2"},
    ],
    ids=["b0", "b1 narrow", "b2"],
)
def test_transformers_gives_equal_scores(model: Any, tmp_path: Path, logged_warnings: Any) -> None:
    """The folder opens without warnings, missing or extra tensors, and the scores are equal."""
    ours = random_model(**model)
    write_hugging_face(ours, tmp_path, size=SIZE)
    theirs, messages = SegformerForSemanticSegmentation.from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert [] == logged_warnings()
    assert dict.fromkeys(messages, 0) == {kind: len(actual) for kind, actual in messages.items()}
    images = torch.randn(1, 3, *SIZE)
    with torch.no_grad():
        expected, scores = ours(images), theirs(pixel_values=images).logits
    assert (expected - scores).abs().max() <= 1e-6 * expected.abs().max()


def test_tensor_names_are_those_of_transformers(tmp_path: Path) -> None:
    """Names and shapes of a B0 equal the list made from transformers' own file."""
    write_hugging_face(random_model(), tmp_path, size=SIZE)
    actual = load_file(tmp_path / "model.safetensors")
    assert json.loads(NAMES.read_text()) == {name: list(t.shape) for name, t in actual.items()}


def test_export_is_read_back(tmp_path: Path) -> None:
    """`read` recognizes the format and returns exactly the model's tensors."""
    model = random_model("b0", 4, decoder_width=24)
    write_hugging_face(model, tmp_path, size=SIZE, classes="abcd")
    weights = read(tmp_path / "model.safetensors")
    assert ("Hugging Face", "b0") == (weights.format, weights.variant)
    assert weights.decoder is not None
    for part, actual in ((model.encoder, weights.encoder), (model.decoder, weights.decoder)):
        expected = {name: t for name, t in part.state_dict().items() if "tracked" not in name}
        assert expected.keys() == actual.keys()
        assert all(torch.equal(tensor, actual[name]) for name, tensor in expected.items())


def test_labels_are_the_19_of_cityscapes(tmp_path: Path) -> None:
    """Both directions of the labels, and the ignored label of the loss, are in the config."""
    write_hugging_face(random_model(), tmp_path, size=SIZE)
    config = SegformerForSemanticSegmentation.from_pretrained(tmp_path).config
    assert dict(enumerate(CLASS_NAMES)) == config.id2label
    assert {name: k for k, name in enumerate(CLASS_NAMES)} == config.label2id
    assert 255 == config.semantic_loss_ignore_index


def test_rates_of_training_are_exported(tmp_path: Path) -> None:
    """Training in transformers uses the drop path and dropout of the model."""
    write_hugging_face(random_model(drop_path=0.2, dropout=0.3), tmp_path, size=SIZE)
    config = SegformerForSemanticSegmentation.from_pretrained(tmp_path).config
    assert (0.2, 0.3) == (config.drop_path_rate, config.classifier_dropout_prob)


@pytest.mark.parametrize("classes", [["a", "b"], ["a", "b", "b"]])
def test_wrong_class_names_are_refused(classes: list[str], tmp_path: Path) -> None:
    """One unique name per class is needed, or nothing is written."""
    with pytest.raises(ValueError, match="2 different names for a model of 3 classes"):
        write_hugging_face(random_model("b0", 3), tmp_path / "out", size=SIZE, classes=classes)
    assert not (tmp_path / "out").exists()


def test_processor_resizes_to_the_training_size(tmp_path: Path, logged_warnings: Any) -> None:
    """The processor resizes any image to the size of the training, with our normalization.

    The hub's own folders have another size: 58 mIoU where the model has 76.2.
    """
    write_hugging_face(random_model(), tmp_path, size=SIZE)
    processor = AutoImageProcessor.from_pretrained(tmp_path)
    gray = Image.fromarray(np.full((50, 70, 3), 51, dtype=np.uint8))
    actual = processor(gray, return_tensors="pt")["pixel_values"]
    expected = (0.2 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    assert (1, 3, *SIZE) == actual.shape
    torch.testing.assert_close(expected, actual.mean(dim=(0, 2, 3)).float())
    assert [] == logged_warnings()


def test_processor_does_not_reduce_labels(tmp_path: Path) -> None:
    """The processor does not change labels: class 0 stays 0, void stays 255."""
    write_hugging_face(random_model(), tmp_path, size=SIZE)
    processor = AutoImageProcessor.from_pretrained(tmp_path)
    labels = np.zeros(SIZE, dtype=np.uint8)
    labels[:, 64:] = 255
    image = np.zeros((*SIZE, 3), dtype=np.uint8)
    # A copy: what it reduces, it reduces in the caller's own labels.
    actual = processor(image, segmentation_maps=labels.copy(), return_tensors="np")["labels"][0]
    assert np.array_equal(labels, actual)


@pytest.mark.parametrize("size", [(64,), (28, 64), (64, 128, 3)])
def test_invalid_size_is_refused(size: Any, tmp_path: Path) -> None:
    """The size must be rows and columns that the network accepts."""
    with pytest.raises(ValueError, match="29 pixels or more each"):
        write_hugging_face(random_model(), tmp_path, size=size)


def test_other_epsilon_is_refused(tmp_path: Path) -> None:
    """Another epsilon is refused, because transformers ignores the one in its config."""
    write_hugging_face(random_model(), tmp_path, size=SIZE)
    config = json.loads((tmp_path / "config.json").read_text()) | {"layer_norm_eps": 1e-3}
    (tmp_path / "config.json").write_text(json.dumps(config))
    theirs = SegformerForSemanticSegmentation.from_pretrained(tmp_path)
    assert {1e-5} == {part.eps for part in theirs.modules() if isinstance(part, nn.LayerNorm)}
    with pytest.raises(
        ValueError, match="norm_eps is 1e-06, but transformers runs every LayerNorm"
    ):
        write_hugging_face(random_model(norm_eps=1e-6), tmp_path, size=SIZE)


def test_checkpoint_is_not_overwritten(tmp_path: Path) -> None:
    """Both formats have files of the same names: a folder of `save` is refused and unchanged."""
    model = random_model()
    save(model, tmp_path)
    with pytest.raises(ValueError, match="contains a model in another format; give another folder"):
        write_hugging_face(model, tmp_path, size=SIZE)
    assert torch.equal(load(tmp_path).decoder.norm.running_mean, model.decoder.norm.running_mean)


def test_failed_export_keeps_the_old_one(tmp_path: Path) -> None:
    """If the weights cannot be written, the old folder is unchanged, without partial files."""
    write_hugging_face(random_model(), tmp_path, size=SIZE)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    broken = random_model()
    broken.decoder.mix.weight = nn.Parameter(broken.decoder.mix.weight.to("meta"))
    with pytest.raises((NotImplementedError, RuntimeError), match="meta"):
        write_hugging_face(broken, tmp_path, size=(128, 256))
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


def test_old_export_is_replaced(tmp_path: Path) -> None:
    """Writing again into the same folder gives the files of the new model."""
    write_hugging_face(random_model(), tmp_path, size=SIZE)
    write_hugging_face(random_model("b0", 3), tmp_path, size=(96, 96))
    size = json.loads((tmp_path / "preprocessor_config.json").read_text())["size"]
    assert {"height": 96, "width": 96} == size
    config = json.loads((tmp_path / "config.json").read_text())
    assert {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"} == config["id2label"]
