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
    """Four training and two validation frames of noise, sampling table and class weights."""
    rng = np.random.default_rng(0)
    for split, n in (("train", 4), ("val", 2)):
        names = [f"{split}/{i}" for i in range(n)]
        with create(tmp_path / "pack" / split, names, (32, 64)) as (images, labels):
            images[:] = rng.integers(0, 256, images.shape)
            labels[:] = rng.integers(0, 19, labels.shape)
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
    """Train for three steps into a folder; return the reported records."""
    section, problems = Train.parse("train", TINY | changes)
    assert section is not None, problems
    reported: list[StepRecord] = []

    def record_and_report(record: StepRecord) -> None:
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
        report=record_and_report,
        facts={"mlflow_run_id": "abc"},
    )
    return reported


def test_same_seed_gives_the_same_bytes(data: Path) -> None:
    """Two trainings write equal files; another seed gives another model."""
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(data, name, seed)
    for file in ("model.safetensors", "config.json", "history.csv", "run.json"):
        assert (data / "a" / file).read_bytes() == (data / "b" / file).read_bytes()
    other = (data / "c" / "model.safetensors").read_bytes()
    assert other != (data / "a" / "model.safetensors").read_bytes()


def test_history_has_the_reported_records(data: Path) -> None:
    """history.csv has a row per record, of steps 2 and 3, both with validation."""
    reported = train(data, "a")
    rows = list(csv.DictReader((data / "a" / "history.csv").read_text().splitlines()))
    assert ["2", "3"] == [row["step"] for row in rows]
    assert [record.loss for record in reported] == [float(row["loss"]) for row in rows]
    assert [record.val_miou for record in reported] == [float(row["val_miou"]) for row in rows]


def test_model_and_run_record_are_loaded(data: Path) -> None:
    """The folder loads as a B0 with 19 classes, and run.json has the given facts."""
    train(data, "a")
    model = load(data / "a")
    assert ("b0", 19) == (model.variant, model.num_classes)
    expected = {"loss": "ce", "seed": 0, "steps": 3, "mlflow_run_id": "abc"}
    assert expected == read_run_facts(data / "a")


def test_training_starts_from_pretrained_weights(data: Path) -> None:
    """Training starts from the encoder in the folder, not from random weights."""
    train(data, "first")
    weights = load(data / "first").encoder.state_dict()
    save_file(weights, data / "pretrained" / "encoder.safetensors")
    train(data, "second", learning_rate=1e-12)
    after = load(data / "second").encoder.state_dict()
    for name, tensor in weights.items():
        torch.testing.assert_close(tensor, after[name])


def test_rare_class_sampling_uses_the_table(data: Path) -> None:
    """With probability 1 for one frame, the other frames have no effect."""
    train(data, "a", sampling="rare_class")
    images = np.load(data / "pack" / "train" / "images.npy")
    images[[0, 1, 3]] = 0
    np.save(data / "pack" / "train" / "images.npy", images)
    train(data, "b", sampling="rare_class")
    first, second = ((data / name / "model.safetensors").read_bytes() for name in ("a", "b"))
    assert first == second


def test_weighted_losses_use_the_table(data: Path) -> None:
    """Equal weights train as plain cross-entropy; a weight on one class only does not.

    The rows of the table have any order: the train id decides.
    """
    plain = train(data, "ce")[0].loss
    equal, one_sided = (
        train(data, family, loss="weighted_ce", class_weights=family)[0].loss
        for family in ("enet", "median")
    )
    assert plain == pytest.approx(equal, rel=1e-5)
    assert abs(plain - one_sided) > 1e-3


def test_weight_families_are_those_of_frequency() -> None:
    """`train.class_weights` accepts every family that `frequency` writes, and no other."""
    assert set(weight_families(0.9)) == set(
        get_args(Train.model_fields["class_weights"].annotation)
    )


def test_model_config_has_license_and_size(data: Path) -> None:
    """config.json has the license of the pretrained weights, the packed size and the crop."""
    (data / "pretrained" / "weights.json").write_text('{"license": "for research only"}')
    train(data, "a")
    config = read_config(data / "a")
    assert "for research only" == config["license"]
    assert [32, 64] == config["size"]
    assert [32, 48] == config["crop"]


@pytest.mark.parametrize("decay", [None, 0.5])
def test_model_config_has_the_ema_decay(data: Path, decay: float | None) -> None:
    """config.json has the EMA decay, which the protocol of the evaluation depends on."""
    train(data, "a", ema_decay=decay)
    assert decay == read_config(data / "a")["ema_decay"]


def test_loss_that_is_not_finite_stops_the_training(data: Path) -> None:
    """The message has step, frames and last good state; no model is written."""
    with pytest.raises(NonFiniteLossError) as caught:
        train(data, "a", steps=9, learning_rate=1e30, clip_norm=None, save_every=1)
    message = str(caught.value)
    assert f"step {caught.value.step} of 9: the loss or its gradient is not finite" in message
    assert re.search(r"Frames of the step: train/\d, train/\d\.", message)
    assert f"The last good state is that of step {caught.value.step - 1}, in " in message
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
def test_out_of_memory_names_the_parameters_to_change(
    data: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message has batch and crop, and the parameters to change."""

    def fail(self: SegFormer, images: torch.Tensor) -> torch.Tensor:
        raise error

    monkeypatch.setattr(SegFormer, "forward", fail)
    with pytest.raises(ValueError, match=r"batch_size 2, .* train.augment.crop 32 x 48: raise"):
        train(data, "a")


@pytest.mark.parametrize(
    ("rank", "code"), [(0, "stopped at step 7; run the same command to resume"), (1, 1)]
)
def test_only_the_main_process_prints_where_it_stopped(rank: int, code: object) -> None:
    """All processes exit with code 1; only the main process prints a message."""
    dist.init_process_group("fake", rank=rank, world_size=2, store=FakeStore())
    try:
        with pytest.raises(SystemExit) as stop:
            exit_resumable(7)
        assert code == stop.value.code
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize(
    "place", ["pipeline.stages.train.build_network", "pipeline.stages.train.build_batch_loader"]
)
def test_out_of_memory_before_the_first_step(
    data: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the network or the frames do not fit, the message is the same."""

    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(place, fail)
    with pytest.raises(ValueError, match=r"batch_size 2, .*: raise train.accumulation"):
        train(data, "a")


def test_validation_batches_are_no_larger_than_training_ones(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a batch of two in two parts the network processes one frame at a time."""
    calls: list[tuple[bool, int]] = []
    forward = SegFormer.forward

    def record_call(self: SegFormer, images: torch.Tensor) -> torch.Tensor:
        calls.append((self.training, len(images)))
        return forward(self, images)

    monkeypatch.setattr(SegFormer, "forward", record_call)
    train(data, "a", batch_size=2, accumulation=2, steps=2)
    assert {(True, 1), (False, 1)} == set(calls)


def test_micro_batch_size_divides_the_batch() -> None:
    """Twelve frames in three parts are two per step of two processes; three are refused."""
    params, problems = Train.parse("train", TINY | {"batch_size": 12, "accumulation": 3})
    assert params is not None, problems
    assert 2 == compute_micro_batch_size(params, 2)
    with pytest.raises(
        ValueError, match=r"batch_size 12 with .* among 3 processes; .* multiple of 9,"
    ):
        compute_micro_batch_size(params, 3)


def test_derived_seeds_are_unique() -> None:
    """The three seeds of an arm differ from each other and from those of other arms."""
    seeds = [number for seed in range(10) for number in derive_seeds(seed)]
    assert 30 == len(set(seeds))


def test_sigterm_in_the_last_step_loses_no_record(data: Path) -> None:
    """The last step is recorded and validated; the resumed training writes the same files."""
    train(data, "whole", report_every=1)

    def stop(record: StepRecord) -> None:
        if record.step == 2:
            signal.raise_signal(signal.SIGTERM)

    steps: list[int] = []
    with pytest.raises(SystemExit):
        train(data, "cut", report_every=1, report=lambda r: (stop(r), steps.append(r.step)))
    assert [1, 2, 3] == steps
    train(data, "cut", report_every=1)
    for file in ("model.safetensors", "history.csv", "run.json"):
        assert (data / "whole" / file).read_bytes() == (data / "cut" / file).read_bytes()


def test_other_errors_are_not_reported_as_out_of_memory(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another RuntimeError keeps its message."""

    def fail(self: SegFormer, images: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("a bug")

    monkeypatch.setattr(SegFormer, "forward", fail)
    with pytest.raises(RuntimeError, match=r"^a bug$"):
        train(data, "a")


def test_training_resumes_after_sigterm(data: Path) -> None:
    """A training stopped by SIGTERM saves its state; resumed, it ends with the same bytes.

    All records are reported, including those from before the stop.
    """
    whole = train(data, "whole", steps=5, report_every=1, ema_decay=0.9)

    def stop(record: StepRecord) -> None:
        if record.step == 2:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(SystemExit, match="stopped at step 3; run the same command to resume"):
        train(data, "cut", steps=5, report_every=1, ema_decay=0.9, report=stop)
    assert not (data / "cut").exists()
    resumed = train(data, "cut", steps=5, report_every=1, ema_decay=0.9)
    assert [record.step for record in whole] == [record.step for record in resumed]
    for file in ("model.safetensors", "config.json", "history.csv", "run.json"):
        assert (data / "whole" / file).read_bytes() == (data / "cut" / file).read_bytes()


def test_full_disk_does_not_stop_the_training(data: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A state that cannot be saved causes a warning; the model is the same."""
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
def test_byte_neutral_parameters_do_not_change_the_model(
    data: Path, change: dict[str, object]
) -> None:
    """Activation checkpointing (with drop path), residency and save_every keep the bytes."""
    train(data, "a", drop_path=0.5)
    train(data, "b", drop_path=0.5, **change)
    first, second = ((data / name / "model.safetensors").read_bytes() for name in ("a", "b"))
    assert first == second


# PyTorch's compiler imports deprecated parts of PyTorch.
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")
def test_training_without_a_compiler(
    data: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a C++ compiler the network is trained uncompiled, with a warning."""
    monkeypatch.setenv("CXX", "/there/is/none")
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("/there/is/none",))
    torch._dynamo.reset()
    with caplog.at_level(logging.WARNING):
        train(data, "a", compile=True)
    assert "the network is not compiled, training is slower: " in caplog.text
    assert (data / "a/model.safetensors").exists()


def test_accumulation_that_does_not_divide_the_batch_is_refused() -> None:
    """All parts of a batch have the same number of frames."""
    _, problems = Train.parse("train", TINY | {"accumulation": 3})
    assert ["train: accumulation must divide batch_size, 2"] == problems


def test_reversed_scale_is_refused() -> None:
    """The message has the key, without the whole section."""
    augment = TINY["augment"] | {"scale": [2.0, 0.5]}
    _, problems = Train.parse("train", TINY | {"augment": augment})
    assert [
        "train.augment: scale must begin with the smaller factor (it is [2.0, 0.5])"
    ] == problems


def test_warmup_as_long_as_the_training_is_refused() -> None:
    """The message has the parameter's name."""
    _, problems = Train.parse("train", TINY | {"warmup_steps": 3, "schedule": "poly"})
    assert ["train: warmup_steps must be less than steps, 3"] == problems


def test_one_cycle_ignores_warmup_steps() -> None:
    """A schedule that does not use warmup_steps does not check them."""
    _, problems = Train.parse("train", TINY | {"warmup_steps": 3, "schedule": "one_cycle"})
    assert [] == problems
