"""The choices of the parameters, which load no PyTorch, against the tables of the library."""

import inspect
from typing import Any, get_args

import pytest

from pipeline.dataset.class_weights import weight_families
from pipeline.evaluation.corruptions.registry import FAMILY_BY_CORRUPTION
from pipeline.params.ablation import LOSS_NAMES
from pipeline.params.evaluate import CorruptionName
from pipeline.params.train import Train
from pipeline.stages import frequency
from segformer import device
from segformer.data import loader, sampling
from segformer.losses import LOSSES
from segformer.model.variants import VARIANTS
from segformer.training import schedule
from segformer.training.optimizer import OPTIMIZERS


def choices(name: str) -> Any:
    """The allowed values of a parameter of `train`."""
    return get_args(Train.model_fields[name].annotation)


def public_functions(module: Any) -> set[str]:
    """The names of the public functions that a module defines."""
    functions = inspect.getmembers(module, inspect.isfunction)
    return {
        name
        for name, function in functions
        if function.__module__ == module.__name__ and not name.startswith("_")
    }


def test_loss_names_are_those_of_the_library() -> None:
    """Every loss of the library can be compared in the ablation, in the same order."""
    assert tuple(LOSSES) == LOSS_NAMES


def test_variants_are_those_of_the_library() -> None:
    """Every size of the network can be trained."""
    assert tuple(VARIANTS) == choices("variant")


def test_optimizers_are_those_of_the_library() -> None:
    """Every optimizer of the library can be chosen."""
    assert tuple(OPTIMIZERS) == choices("optimizer")


def test_schedules_are_those_of_the_library() -> None:
    """Every schedule of the library can be chosen; `poly` is its warmup_poly."""
    names = {"poly": "warmup_poly"}
    assert {names.get(name, name) for name in choices("schedule")} == public_functions(schedule)


def test_samplings_are_those_of_the_library() -> None:
    """`uniform` is the library's shuffled; `rare_class` is weighted, by the frequency stage."""
    names = {"uniform": "shuffled", "rare_class": "weighted"}
    assert {names[name] for name in choices("sampling")} == public_functions(sampling)
    assert "rare_class_sampling" in public_functions(frequency)


def test_class_weights_are_the_families() -> None:
    """Every family of class weights can be chosen."""
    assert tuple(weight_families(beta=0.999)) == choices("class_weights")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("precision", device.Precision),
        ("compile", device.Compile),
        ("residency", loader.Residency),
    ],
)
def test_device_settings_are_those_of_the_library(name: str, expected: Any) -> None:
    """Precision, compilation and residency have the values of the library's types."""
    assert get_args(expected) == choices(name)


def test_corruptions_are_those_with_a_function() -> None:
    """Every corruption that can be chosen has a function, and the reverse."""
    assert set(FAMILY_BY_CORRUPTION) == set(get_args(CorruptionName))
