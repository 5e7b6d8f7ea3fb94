"""Time and memory of every loss against its plain form: `python -m benchmarks.losses`.

The plain form is the usual implementation: PyTorch's own cross-entropy for the losses that are a
mean over pixels, a one-hot map of the labels for those that are a mean over classes. Both run
forward and backward on the same scores and labels, in turns; the ratio is the result. Peak memory
is that of a step beyond its scores and labels.
"""

import argparse
import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.measure import cpu_peak_mib, gpu_peak_mib, median_seconds, run_benchmark
from segformer.cityscapes import IGNORE, NUM_CLASSES
from segformer.losses import CE_DICE, CE_JACCARD, LOSSES, WEIGHTED_LOSSES, Loss, get_loss
from segformer.losses.pixel import FOCAL_GAMMA, OHEM_KEEP_ONE_IN, OHEM_THRESHOLD

WEIGHTS = torch.linspace(0.5, 2.0, NUM_CLASSES)
VOID_SHARE = 0.11  # as in the real training set


def plain_ce(scores: Tensor, target: Tensor) -> Tensor:
    """PyTorch's cross-entropy."""
    return F.cross_entropy(scores, target, ignore_index=IGNORE)


def plain_weighted_ce(scores: Tensor, target: Tensor) -> Tensor:
    """PyTorch's weighted cross-entropy."""
    weights = WEIGHTS.to(scores.device)
    return F.cross_entropy(scores, target, weight=weights, ignore_index=IGNORE)


def plain_ohem_ce(scores: Tensor, target: Tensor) -> Tensor:
    """The sorted losses: those above the threshold, or the largest share of them."""
    losses = F.cross_entropy(scores, target, ignore_index=IGNORE, reduction="none")
    losses = losses[target != IGNORE].sort(descending=True).values
    min_kept = -(-len(losses) // OHEM_KEEP_ONE_IN)
    return losses[: max(min_kept, int((losses > -math.log(OHEM_THRESHOLD)).sum()))].mean()


def plain_focal(scores: Tensor, target: Tensor) -> Tensor:
    """PyTorch's cross-entropy per pixel, with the focal factor."""
    losses = F.cross_entropy(scores, target, ignore_index=IGNORE, reduction="none")
    losses = losses[target != IGNORE]
    return ((1 - (-losses).exp()) ** FOCAL_GAMMA * losses).mean()


def one_hot_sums(scores: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the intersection, predicted and actual sums of the classes present."""
    is_labeled = target != IGNORE
    truth = F.one_hot(target.where(is_labeled, 0), scores.shape[1]).permute(0, 3, 1, 2)
    truth = (truth * is_labeled[:, None]).to(scores.dtype)
    probabilities = scores.softmax(dim=1) * is_labeled[:, None]
    intersection, predicted, actual = (
        terms.sum(dim=(0, 2, 3)) for terms in (probabilities * truth, probabilities, truth)
    )
    is_present = actual > 0
    return intersection[is_present], predicted[is_present], actual[is_present]


def plain_dice(scores: Tensor, target: Tensor) -> Tensor:
    """Dice over a one-hot map."""
    intersection, predicted, actual = one_hot_sums(scores, target)
    return (1 - 2 * intersection / (predicted + actual)).mean()


def plain_log_dice(scores: Tensor, target: Tensor) -> Tensor:
    """The log of Dice over a one-hot map."""
    intersection, predicted, actual = one_hot_sums(scores, target)
    return -(2 * intersection / (predicted + actual)).log().mean()


def plain_jaccard(scores: Tensor, target: Tensor) -> Tensor:
    """Jaccard over a one-hot map."""
    intersection, predicted, actual = one_hot_sums(scores, target)
    return (1 - intersection / (predicted + actual - intersection)).mean()


def plain_ce_dice(scores: Tensor, target: Tensor) -> Tensor:
    """The weighted sum of two losses."""
    return CE_DICE[0] * plain_ce(scores, target) + CE_DICE[1] * plain_dice(scores, target)


def plain_ce_jaccard(scores: Tensor, target: Tensor) -> Tensor:
    """The weighted sum of two losses."""
    return CE_JACCARD[0] * plain_ce(scores, target) + CE_JACCARD[1] * plain_jaccard(scores, target)


PLAIN_LOSSES: dict[str, Loss] = {
    "ce": plain_ce,
    "weighted_ce": plain_weighted_ce,
    "ohem_ce": plain_ohem_ce,
    "focal": plain_focal,
    "dice": plain_dice,
    "log_dice": plain_log_dice,
    "jaccard": plain_jaccard,
    "ce_dice": plain_ce_dice,
    "ce_jaccard": plain_ce_jaccard,
}


def get_both_losses(name: str, device: str) -> dict[str, Loss]:
    """Return the plain loss and ours."""
    ours = get_loss(name, WEIGHTS.to(device) if name in WEIGHTED_LOSSES else None)
    return {"plain": PLAIN_LOSSES[name], "ours": ours}


def make_inputs(size: Sequence[int], layout: str, device: str) -> tuple[Tensor, Tensor]:
    """Return random scores (b, 19, h, w) that require gradients, and labels (b, h, w)."""
    b, h, w = size
    torch.manual_seed(0)
    target = torch.randint(0, NUM_CLASSES, (b, h, w), device=device)
    target[torch.rand(b, h, w, device=device) < VOID_SHARE] = IGNORE
    # Created in its layout: a copy would increase the peak memory.
    if layout == "channels_last":
        scores = torch.randn(b, h, w, NUM_CLASSES, device=device).permute(0, 3, 1, 2)
    else:
        scores = torch.randn(b, NUM_CLASSES, h, w, device=device)
    return scores.requires_grad_(), target


def make_step(loss: Loss, scores: Tensor, target: Tensor) -> Callable[[], float]:
    """Return a function that runs the loss forward and backward and returns its value."""

    def step() -> float:
        scores.grad = None
        value = loss(scores, target)
        torch.autograd.backward(value)
        return value.item()  # on a GPU this waits for the forward pass only

    return step


def measure_peak_in_process(loss: Loss, arguments: argparse.Namespace) -> float:
    """Return the peak memory of one step on the CPU in MiB, in this process."""
    warm_up = make_inputs((1, 4, 4), arguments.layout, "cpu")
    make_step(loss, *warm_up)()  # libraries and threads allocate their memory once
    return cpu_peak_mib(make_step(loss, *make_inputs(arguments.size, arguments.layout, "cpu")))


def measure_peaks(name: str, arguments: argparse.Namespace) -> list[float]:
    """Return the peak memory of one step in MiB, of the plain loss and of ours."""
    losses = get_both_losses(name, arguments.device)
    if arguments.device == "cpu":
        options = ["--layout", arguments.layout, "--threads", str(arguments.threads)]
        options += ["--size", *map(str, arguments.size)]
        return [run_benchmark("losses", "--peak-of", name, form, *options) for form in losses]
    batch = make_inputs(arguments.size, arguments.layout, arguments.device)
    return [gpu_peak_mib(make_step(loss, *batch)) for loss in losses.values()]


def compare(name: str, arguments: argparse.Namespace) -> None:
    """Print one row of the table."""
    scores, target = make_inputs(arguments.size, arguments.layout, arguments.device)
    losses = get_both_losses(name, arguments.device)
    steps = [make_step(loss, scores, target) for loss in losses.values()]
    plain, ours = median_seconds(steps, arguments.repeats)
    plain_peak, our_peak = measure_peaks(name, arguments)
    difference = abs(steps[0]() - steps[1]())
    print(
        f"{name:12}{1e3 * plain:8.0f} ms{1e3 * ours:8.0f} ms{plain / ours:7.2f}x"
        f"{plain_peak:8.0f} MiB{our_peak:7.0f} MiB{plain_peak / our_peak:7.2f}x{difference:12.0e}",
        flush=True,
    )


def main() -> None:
    """Read the command line and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--losses", nargs="+", choices=LOSSES, default=list(LOSSES))
    parser.add_argument("--size", nargs=3, type=int, default=[2, 512, 1024], help="b, h and w")
    parser.add_argument(
        "--layout",
        choices=["channels_last", "contiguous"],
        default="channels_last",
        help="of the scores; the network's are channels_last",
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--peak-of", nargs=2, metavar=("LOSS", "FORM"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.peak_of:
        name, form = arguments.peak_of
        print(measure_peak_in_process(get_both_losses(name, "cpu")[form], arguments))
        return
    where = f"{arguments.device}, {arguments.threads} threads, {arguments.layout}"
    print(f"torch {torch.__version__}, {where}, {arguments.size}, forward and backward")
    print(f"{'plain':>23}{'ours':>11}{'faster':>8}{'plain':>12}{'ours':>11}{'less':>8}  difference")
    for name in arguments.losses:
        compare(name, arguments)


if __name__ == "__main__":
    main()
