import csv
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import torch
from ruamel.yaml import YAML
from safetensors.torch import save_file

from pipeline.class_weights import families
from pipeline.stages.train import Train, read_facts, run
from segformer.checkpoint import load, read_config
from segformer.frames import create
from segformer.training import Progress

SHIPPED = YAML(typ="safe").load(Path(__file__).parents[2] / "params.yaml")["train"]
TINY = SHIPPED | {
    "steps": 3,
    "batch_size": 2,
    "warmup_steps": 1,
    "report_every": 2,
    "validate_every": 2,
    "augment": SHIPPED["augment"] | {"crop": [32, 48]},
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Four training and two validation frames of noise, and probabilities to draw them by."""
    random = np.random.default_rng(0)
    for split, n in (("train", 4), ("val", 2)):
        names = [f"{split}/{i}" for i in range(n)]
        with create(tmp_path / "pack" / split, names, (32, 64)) as (images, labels):
            images[:] = random.integers(0, 256, images.shape)
            labels[:] = random.integers(0, 19, labels.shape)
    frames = [f"train/{i}" for i in range(4)]
    table = pd.DataFrame({"frame": frames, "probability": [0.0, 0.0, 1.0, 0.0]})
    table.to_csv(tmp_path / "sampling.csv", index=False)
    weights = pd.DataFrame({"train_id": range(19), "enet": 1.0, "median": [1.0] + [0.0] * 18})
    weights[::-1].to_csv(tmp_path / "class_weights.csv", index=False)
    (tmp_path / "pretrained").mkdir()
    return tmp_path


def train(
    data: Path, name: str, seed: int = 0, loss: str = "ce", **changes: object
) -> list[Progress]:
    """Train for three steps into a folder; give back what was reported."""
    section, mistakes = Train.parse("train", TINY | changes)
    assert section is not None, mistakes
    reported: list[Progress] = []
    run(
        section,
        loss=loss,
        seed=seed,
        pack=data / "pack",
        frequency=data,
        weights=data / "pretrained",
        out=data / name,
        report=reported.append,
        facts={"mlflow_run_id": "abc"},
    )
    return reported


def test_the_same_seed_gives_the_same_bytes(data: Path) -> None:
    """Two runs write equal files, run.json and history included; another seed does not."""
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(data, name, seed)
    for file in ("model.safetensors", "config.json", "history.csv", "run.json"):
        assert (data / "a" / file).read_bytes() == (data / "b" / file).read_bytes()
    other = (data / "c" / "model.safetensors").read_bytes()
    assert other != (data / "a" / "model.safetensors").read_bytes()


def test_the_history_is_what_was_reported(data: Path) -> None:
    """history.csv has a row per record: steps 2 and 3, validated at both."""
    reported = train(data, "a")
    rows = list(csv.DictReader((data / "a" / "history.csv").read_text().splitlines()))
    assert ["2", "3"] == [row["step"] for row in rows]
    assert [record.loss for record in reported] == [float(row["loss"]) for row in rows]
    assert [record.val_miou for record in reported] == [float(row["val_miou"]) for row in rows]


def test_the_model_can_be_loaded_and_says_what_it_is(data: Path) -> None:
    """The folder loads as a B0 with 19 classes, and run.json carries the facts given."""
    train(data, "a")
    model = load(data / "a")
    assert ("b0", 19) == (model.variant, model.num_classes)
    expected = {"loss": "ce", "seed": 0, "steps": 3, "mlflow_run_id": "abc"}
    assert expected == read_facts(data / "a")


def test_pretrained_weights_are_taken(data: Path) -> None:
    """Training starts from the encoder that lies in the folder, not from random weights."""
    train(data, "first")
    weights = load(data / "first").encoder.state_dict()
    save_file(weights, data / "pretrained" / "encoder.safetensors")
    train(data, "second", learning_rate=1e-12)
    after = load(data / "second").encoder.state_dict()
    for name, tensor in weights.items():
        torch.testing.assert_close(tensor, after[name])


def test_rare_class_sampling_draws_by_the_table(data: Path) -> None:
    """With all probability on one frame, the others do not matter."""
    train(data, "a", sampling="rare_class")
    images = np.load(data / "pack" / "train" / "images.npy")
    images[[0, 1, 3]] = 0
    np.save(data / "pack" / "train" / "images.npy", images)
    train(data, "b", sampling="rare_class")
    first, second = ((data / name / "model.safetensors").read_bytes() for name in ("a", "b"))
    assert first == second


def test_weighted_losses_take_their_weights_from_the_table(data: Path) -> None:
    """Equal weights train as plain cross-entropy does; with a weight on one class only it differs.

    The table's rows may stand in any order: the train id tells whose weight it is.
    """
    plain = train(data, "ce")[0].loss
    equal, one_sided = (
        train(data, family, loss="weighted_ce", class_weights=family)[0].loss
        for family in ("enet", "median")
    )
    assert plain == pytest.approx(equal, rel=1e-5)
    assert abs(plain - one_sided) > 1e-3


def test_the_families_are_those_of_frequency() -> None:
    """`train.class_weights` can name every family that `frequency` writes, and no other."""
    assert set(families(0.9)) == set(get_args(Train.model_fields["class_weights"].annotation))


def test_the_model_keeps_the_licence_of_its_weights_and_its_size(data: Path) -> None:
    """config.json says what `pretrained` said about the licence, and the packed frames' size."""
    (data / "pretrained" / "weights.json").write_text('{"license": "for research only"}')
    train(data, "a")
    config = read_config(data / "a")
    assert "for research only" == config["license"]
    assert [32, 64] == config["size"]
    assert [32, 48] == config["crop"]


def test_a_loss_that_is_not_finite_stops_the_run(data: Path) -> None:
    """A learning rate beyond all bounds ends with the step named, and no model is written."""
    with pytest.raises(ValueError, match=r"step \d+ of 9: the loss is"):
        train(data, "a", steps=9, learning_rate=1e30, clip_norm=None)
    assert not (data / "a").exists()


def test_a_scale_the_wrong_way_round_is_refused() -> None:
    """The mistake is told by its key, without the whole section behind it."""
    augment = TINY["augment"] | {"scale": [2.0, 0.5]}
    _, mistakes = Train.parse("train", TINY | {"augment": augment})
    assert ["train.augment: scale names the least factor first, not [2.0, 0.5]"] == mistakes


def test_a_warmup_as_long_as_the_training_is_refused() -> None:
    """The mistake is told before any work, with the parameter's name."""
    _, mistakes = Train.parse("train", TINY | {"warmup_steps": 3})
    assert ["train: warmup_steps must be less than steps, 3"] == mistakes
