"""The measurements of `benchmarks/training.py` are correct."""

import itertools
import sys
import time
from contextlib import closing

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.arithmetic import count_flops
from benchmarks.measure import WaitTimer
from benchmarks.pipeline_training import PipelineTraining, TrainingSetup
from benchmarks.profile import annotate_loss, profile_step
from benchmarks.test_images import make_test_frames
from segformer.losses import get_loss
from tests.project.imports import closure, imported_modules, module_file

CPU = torch.device("cpu")


def test_benchmark_needs_only_the_library() -> None:
    """Beside the standard library it imports only the dependencies of segformer/."""
    files = closure("benchmarks.training") - {module_file("benchmarks.reference_training")}
    names = {name.split(".")[0] for path in files for name in imported_modules(path)}
    allowed = {"torch", "numpy", "PIL", "safetensors", "segformer", "benchmarks"}
    assert set() == names - allowed - sys.stdlib_module_names


def test_flops_of_both_passes() -> None:
    """A linear layer has 2 n c o forward, and the same for each of its two gradients."""
    layer, tokens = nn.Linear(5, 7), torch.randn(11, 5, requires_grad=True)
    assert 3 * 2 * 11 * 5 * 7 == count_flops(lambda: layer(tokens).sum().backward())


def test_flops_of_depthwise_convolutions() -> None:
    """Nine products for each output value, and the same for each of the two gradients."""
    convolution = nn.Conv2d(4, 4, 3, padding=1, groups=4)
    image = torch.randn(2, 4, 6, 8, requires_grad=True)
    assert 3 * 2 * 9 * (2 * 4 * 6 * 8) == count_flops(lambda: convolution(image).sum().backward())


def test_flops_of_attention_on_a_cpu() -> None:
    """Two products of n x m x d forward; five backward, one of which is a recomputation."""
    query, key, value = torch.randn(3, 1, 2, 16, 8).requires_grad_()
    flops = count_flops(lambda: F.scaled_dot_product_attention(query, key, value).sum().backward())
    assert (2 + 5) * 2 * (2 * 16 * 16 * 8) == flops


def test_flops_of_in_place_products() -> None:
    """addmm_ has the operations of its matrix product."""
    assert 2 * 3 * 4 * 5 == count_flops(
        lambda: torch.zeros(3, 5).addmm_(torch.randn(3, 4), torch.randn(4, 5))
    )


def test_profile_separates_the_loss() -> None:
    """Both passes of a step that consists of its loss are counted as the loss."""
    scores = torch.randn(2, 19, 64, 64, requires_grad=True)
    loss, target = annotate_loss(get_loss("ce")), torch.zeros(2, 64, 64, dtype=torch.int64)
    times = profile_step(lambda: loss(scores, target).backward(), CPU)
    del times["between operators"]
    assert times["loss"] > 0.9 * sum(times.values())


def test_waiting_time_is_measured() -> None:
    """The time from requesting a batch to receiving it is counted."""
    waits = WaitTimer(CPU)
    slow = (time.sleep(0.01) for _ in itertools.count())
    stream = waits.wrap(slow)
    next(stream), next(stream)
    assert waits.seconds() >= 0.02


def test_working_time_is_not_waiting_time() -> None:
    """The time between receiving a batch and requesting the next is not counted."""
    waits = WaitTimer(CPU)
    stream = waits.wrap(itertools.repeat("batch"))
    next(stream)
    time.sleep(0.2)
    next(stream)
    assert waits.seconds() < 0.2


def test_training_continues_over_calls() -> None:
    """Several calls of `train` are one training, with a single stream of batches."""
    training = PipelineTraining(
        make_test_frames(2, (32, 32)), TrainingSetup("b0", (32, 32), 2, CPU)
    )
    with closing(training.stream()) as stream:
        training.train(stream, 1)
        training.train(stream, 2)
        next(stream)
    assert 3 == training._state.step
