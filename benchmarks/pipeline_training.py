"""The training of the pipeline, for the benchmark: `fit()` on packed frames."""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch

from segformer.data.augment import Augment
from segformer.data.loader import BatchLoader, Residency
from segformer.data.packed_frames import PackedFrames
from segformer.data.sampling import shuffled
from segformer.device import Compile, Precision, autocast_dtype, maybe_compile
from segformer.losses import Loss, get_loss
from segformer.model.segformer import SegFormer
from segformer.training.loop import Batch, Recipe, backward, fit
from segformer.training.optimizer import adamw
from segformer.training.schedule import warmup_poly
from segformer.training.state import TrainingState

PAPER_STEPS = 160_000  # updates; section 4.1


@dataclass(frozen=True)
class TrainingSetup:
    """The settings of a training; `crop` is rows and columns in pixels."""

    variant: str
    crop: tuple[int, int]
    batch_size: int
    device: torch.device
    precision: Precision = "auto"
    compile: Compile = "auto"
    residency: Residency = "auto"

    @property
    def autocast(self) -> torch.dtype | None:
        """The type for autocast; None for float32."""
        return autocast_dtype(self.precision, self.device)


class PipelineTraining:
    """A training that is continued by each call."""

    def __init__(self, frames: PackedFrames, setup: TrainingSetup) -> None:
        model = SegFormer(setup.variant).to(setup.device)
        optimizer = adamw(model, lr=6e-5, decoder_lr_factor=10.0, weight_decay=0.01)
        self._state = TrainingState(model, optimizer)
        self._network = maybe_compile(model, setup.compile, setup.device)
        self._recipe = make_recipe(setup)
        self._batches = BatchLoader(
            frames,
            shuffled(len(frames), setup.batch_size, seed=0),
            Augment(setup.crop),
            seed=0,
            device=setup.device,
            residency=setup.residency,
        )
        self.residency = self._batches.residency

    def stream(self) -> Generator[Batch, None, None]:
        """Yield batches on the device, without end."""
        return self._batches(self._state.step)

    def train(self, batches: Iterator[Batch], steps: int) -> float:
        """Make `steps` updates and return the mean loss, which waits for the device."""
        fit(
            self._state,
            lambda _: (batch for batch in batches),  # `fit` closes this generator, not `batches`
            replace(self._recipe, steps=self._state.step + steps),
            network=self._network,
            validate=lambda _: 0.0,
            report=lambda _: None,
        )
        return self._state.history[-1].loss

    def wrap_loss(self, wrapper: Callable[[Loss], Loss]) -> None:
        """Replace the loss by a wrapped one."""
        self._recipe = replace(self._recipe, loss=wrapper(self._recipe.loss))


def make_recipe(setup: TrainingSetup) -> Recipe:
    """Return the settings of the paper; the caller sets `steps`."""
    return Recipe(
        steps=0,
        loss=get_loss("ce"),
        schedule=partial(warmup_poly, steps=PAPER_STEPS, warmup_steps=1500),
        autocast=setup.autocast,
        validate_every=PAPER_STEPS,
        save_every=PAPER_STEPS,
    )


def make_single_pass(setup: TrainingSetup) -> Callable[[], object]:
    """Return a function that runs one image forward and backward, without compilation."""
    model = SegFormer(setup.variant).to(setup.device)
    images = torch.randn(1, 3, *setup.crop, device=setup.device)
    labels = torch.zeros(1, *setup.crop, dtype=torch.int64, device=setup.device)
    return partial(backward, model, images, labels, make_recipe(setup))
