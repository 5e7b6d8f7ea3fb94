import csv
import logging
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import torch
import torch.distributed as dist
from ruamel.yaml import YAML
from safetensors.torch import save_file
from torch.testing._internal.distributed.fake_pg import FakeStore

from pipeline.dataset.class_weights import weight_families
from pipeline.params.train import Train
from pipeline.run_record import read_run_facts
from pipeline.stages.train import TrainInputs, compute_micro_batch_size, train_arm
from pipeline.training.errors import exit_resumable
from pipeline.training.resume import ResumeFolder
from pipeline.training.setup import derive_seeds
from segformer.data.packed_frames import create
from segformer.model.segformer import SegFormer
from segformer.training.state import NonFiniteLossError, StepRecord
from segformer.weights.checkpoint import load, read_config

SHIPPED = YAML(typ="safe").load(Path(__file__).parents[3] / "params.yaml")["train"]
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
    data: Path,
    name: str,
    seed: int = 0,
    loss: str = "ce",
    report: Callable[[StepRecord], None] = lambda record: None,
    **changes: object,
) -> list[StepRecord]:
    """Train for three steps into a folder; give back what was reported."""
    section, mistakes = Train.parse("train", TINY | changes)
    assert section is not None, mistakes
    reported: list[StepRecord] = []

    def listen(record: StepRecord) -> None:
        reported.append(record)
        report(record)

    train_arm(
        section,
        loss=loss,
        seed=seed,
        device=torch.device("cpu"),
        inputs=TrainInputs(pack=data / "pack", frequency=data, weights=data / "pretrained"),
        out=data / name,
        resume_folder=ResumeFolder(data / "work", name, {"seed": str(seed)}),
        report=listen,
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
    assert expected == read_run_facts(data / "a")


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
    assert set(weight_families(0.9)) == set(
        get_args(Train.model_fields["class_weights"].annotation)
    )


def test_the_model_keeps_the_licence_of_its_weights_and_its_size(data: Path) -> None:
    """config.json says what `pretrained` said about the licence, and the packed frames' size."""
    (data / "pretrained" / "weights.json").write_text('{"license": "for research only"}')
    train(data, "a")
    config = read_config(data / "a")
    assert "for research only" == config["license"]
    assert [32, 64] == config["size"]
    assert [32, 48] == config["crop"]


@pytest.mark.parametrize("decay", [None, 0.5])
def test_the_model_says_whether_its_weights_are_an_average(data: Path, decay: float | None) -> None:
    """From config.json the evaluation knows it, for the protocol."""
    train(data, "a", ema_decay=decay)
    assert decay == read_config(data / "a")["ema_decay"]


def test_a_loss_that_is_not_finite_stops_the_run(data: Path) -> None:
    """A rate beyond all bounds: step, frames and last good state are named, no model is written."""
    with pytest.raises(NonFiniteLossError) as told:
        train(data, "a", steps=9, learning_rate=1e30, clip_norm=None, save_every=1)
    message = str(told.value)
    assert f"step {told.value.step} of 9: the loss or its gradient is not finite" in message
    assert re.search(r"Frames of the step: train/\d, train/\d\.", message)
    assert f"The last good state is that of step {told.value.step - 1}, in " in message
    assert not (data / "a").exists()


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("CUDA error: out of memory"),
        MemoryError(),
    ],
    ids=["gpu", "cpu", "cublas", "cuda", "python"],
)
def test_too_little_memory_names_what_to_lower(
    data: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batch and crop that failed are told, and which parameters to change."""

    def fail(self: SegFormer, images: torch.Tensor) -> torch.Tensor:
        raise error

    monkeypatch.setattr(SegFormer, "forward", fail)
    with pytest.raises(ValueError, match=r"batch_size 2 .* train.augment.crop 32 x 48: raise"):
        train(data, "a")


@pytest.mark.parametrize(
    ("rank", "told"), [(0, "stopped at step 7; run the same command to resume"), (1, 1)]
)
def test_only_the_first_process_says_where_it_stopped(rank: int, told: object) -> None:
    """All end with exit code 1, and the message is there once."""
    dist.init_process_group("fake", rank=rank, world_size=2, store=FakeStore())
    try:
        with pytest.raises(SystemExit) as stop:
            exit_resumable(7)
        assert told == stop.value.code
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize(
    "place", ["pipeline.stages.train.build_network", "pipeline.stages.train.build_batch_loader"]
)
def test_too_little_memory_before_the_first_step_is_told_alike(
    data: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network or the frames may be what does not fit."""

    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(place, fail)
    with pytest.raises(ValueError, match=r"batch_size 2 .*: raise train.accumulation"):
        train(data, "a")


def test_validation_takes_no_more_frames_at_a_time_than_training(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a batch of two in two parts the network never sees more than one frame."""
    seen: list[tuple[bool, int]] = []
    forward = SegFormer.forward

    def looked_at(self: SegFormer, images: torch.Tensor) -> torch.Tensor:
        seen.append((self.training, len(images)))
        return forward(self, images)

    monkeypatch.setattr(SegFormer, "forward", looked_at)
    train(data, "a", batch_size=2, accumulation=2, steps=2)
    assert {(True, 1), (False, 1)} == set(seen)


def test_a_batch_is_shared_in_equal_parts() -> None:
    """Twelve frames in three parts by two processes are two at a time; by three it is refused."""
    params, mistakes = Train.parse("train", TINY | {"batch_size": 12, "accumulation": 3})
    assert params is not None, mistakes
    assert 2 == compute_micro_batch_size(params, 2)
    with pytest.raises(ValueError, match=r"batch_size 12 with .* among 3 processes; .* multiple of 9,"):
        compute_micro_batch_size(params, 3)


def test_dropout_has_random_numbers_of_its_own() -> None:
    """The seeds of an arm are three different ones, and no other arm has any of them."""
    seeds = [number for seed in range(10) for number in derive_seeds(seed)]
    assert 30 == len(set(seeds))


def test_sigterm_in_the_last_step_loses_no_record(data: Path) -> None:
    """The last step is recorded and validated; the next training writes what a whole run does."""
    train(data, "whole", report_every=1)

    def stop(record: StepRecord) -> None:
        if record.step == 2:
            signal.raise_signal(signal.SIGTERM)

    told: list[int] = []
    with pytest.raises(SystemExit):
        train(data, "cut", report_every=1, report=lambda r: (stop(r), told.append(r.step)))
    assert [1, 2, 3] == told
    train(data, "cut", report_every=1)
    for file in ("model.safetensors", "history.csv", "run.json"):
        assert (data / "whole" / file).read_bytes() == (data / "cut" / file).read_bytes()


def test_an_error_of_another_kind_is_not_taken_for_memory(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistake of ours stays what it is."""

    def fail(self: SegFormer, images: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("a mistake")

    monkeypatch.setattr(SegFormer, "forward", fail)
    with pytest.raises(RuntimeError, match=r"^a mistake$"):
        train(data, "a")


def test_sigterm_saves_and_the_next_training_goes_on(data: Path) -> None:
    """Told to stop in step 2, it saves and leaves; the next one ends with the bytes of a whole run.

    Its history is whole, and it is told all of it, what was before the stop included.
    """
    whole = train(data, "whole", steps=5, report_every=1, ema_decay=0.9)

    def stop(record: StepRecord) -> None:
        if record.step == 2:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(SystemExit, match="stopped at step 3; run the same command to resume"):
        train(data, "cut", steps=5, report_every=1, ema_decay=0.9, report=stop)
    assert not (data / "cut").exists()
    told = train(data, "cut", steps=5, report_every=1, ema_decay=0.9)
    assert [record.step for record in whole] == [record.step for record in told]
    for file in ("model.safetensors", "config.json", "history.csv", "run.json"):
        assert (data / "whole" / file).read_bytes() == (data / "cut" / file).read_bytes()


def test_a_disk_that_is_full_does_not_stop_the_training(
    data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The state that could not be saved costs a warning; the model is the same."""
    train(data, "a")
    folder = ResumeFolder(data / "work", "b", {"seed": "0"}).path
    folder.mkdir(parents=True)
    (folder / "newest.part").symlink_to("/dev/full")
    with caplog.at_level(logging.WARNING):
        train(data, "b")
    assert "the state of step 2 could not be saved ([Errno 28] No space left" in caplog.text
    assert (data / "a/model.safetensors").read_bytes() == (
        data / "b/model.safetensors"
    ).read_bytes()


@pytest.mark.parametrize(
    "change",
    [{"activation_checkpointing": True}, {"residency": "device"}, {"save_every": 1}],
    ids=lambda change: next(iter(change)),
)
def test_some_parameters_change_no_byte(data: Path, change: dict[str, object]) -> None:
    """What is computed a second time comes out the same, dropped paths included; nor do places."""
    train(data, "a", drop_path=0.5)
    train(data, "b", drop_path=0.5, **change)
    first, second = ((data / name / "model.safetensors").read_bytes() for name in ("a", "b"))
    assert first == second


# PyTorch's compiler imports what PyTorch has deprecated.
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")
def test_a_compiler_that_is_missing_is_told_and_done_without(
    data: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a C++ compiler the network is trained as it is, with a warning that says why."""
    monkeypatch.setenv("CXX", "/there/is/none")
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("/there/is/none",))
    torch._dynamo.reset()
    with caplog.at_level(logging.WARNING):
        train(data, "a", compile=True)
    assert "the network is not compiled, training is slower: " in caplog.text
    assert (data / "a/model.safetensors").exists()


def test_parts_that_do_not_divide_the_batch_are_refused() -> None:
    """Each part of a batch has equally many frames."""
    _, mistakes = Train.parse("train", TINY | {"accumulation": 3})
    assert ["train: accumulation must divide batch_size, 2"] == mistakes


def test_a_scale_the_wrong_way_round_is_refused() -> None:
    """The mistake is told by its key, without the whole section behind it."""
    augment = TINY["augment"] | {"scale": [2.0, 0.5]}
    _, mistakes = Train.parse("train", TINY | {"augment": augment})
    assert ["train.augment: scale must begin with the smaller factor (it is [2.0, 0.5])"] == mistakes


def test_a_warmup_as_long_as_the_training_is_refused() -> None:
    """The mistake is told before any work, with the parameter's name."""
    _, mistakes = Train.parse("train", TINY | {"warmup_steps": 3, "schedule": "poly"})
    assert ["train: warmup_steps must be less than steps, 3"] == mistakes


def test_one_cycle_has_no_warmup_steps() -> None:
    """Where the schedule does not read them, they do not have to fit."""
    _, mistakes = Train.parse("train", TINY | {"warmup_steps": 3, "schedule": "one_cycle"})
    assert [] == mistakes
