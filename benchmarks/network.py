"""Time our SegFormer against transformers' with the same weights: `python benchmarks/network.py`.

Both turn the same pictures into scores at a quarter of the size. They take turns within one run, so
that a noisy machine is noisy for both; the median of the turns counts, and the ratio is the result.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from segformer.cityscapes import NUM_CLASSES
from segformer.interop import load_model
from segformer.model import SegFormer
from segformer.variants import VARIANTS, get_variant


def reference(variant: str) -> nn.Module:
    """Transformers' network of the same size, with random weights and random batch statistics."""
    size = get_variant(variant)
    config = SegformerConfig(
        hidden_sizes=size.widths,
        depths=size.depths,
        decoder_hidden_size=size.decoder_width,
        num_labels=NUM_CLASSES,
        drop_path_rate=0.0,
        classifier_dropout_prob=0.0,
    )
    torch.manual_seed(0)
    network: nn.Module = SegformerForSemanticSegmentation(config)
    norm = network.get_submodule("decode_head.batch_norm")
    nn.init.normal_(norm.get_buffer("running_mean"))
    nn.init.uniform_(norm.get_buffer("running_var"), 0.5, 2.0)
    return network


def ours_like(network: nn.Module, variant: str) -> SegFormer:
    """Our network with the weights of transformers', carried over in a file."""
    model = SegFormer(variant, drop_path=0.0, dropout=0.0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "reference.pth"
        torch.save(network.state_dict(), path)
        load_model(model, path)
    return model


def medians(functions: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    """Median seconds of each function, called in turns; the first turn only warms up."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(repeats + 1):
        for function, taken in zip(functions, times, strict=True):
            start = time.perf_counter()
            function()
            if torch.cuda.is_available():
                torch.cuda.synchronize()  # a GPU works on after the call has returned
            taken.append(time.perf_counter() - start)
    return [statistics.median(taken[1:]) for taken in times]


def infer(network: Callable[[Tensor], Tensor], images: Tensor) -> Callable[[], Tensor]:
    """A function that runs the network once without gradients."""

    def run() -> Tensor:
        with torch.inference_mode():
            return network(images)

    return run


def learn(
    module: nn.Module, network: Callable[[Tensor], Tensor], images: Tensor
) -> Callable[[], None]:
    """A function that runs the network once forward and backward, with batch statistics."""

    def run() -> None:
        module.zero_grad()
        torch.autograd.backward(network(images).square().mean())

    return run


def compare(variant: str, images: Tensor, repeats: int) -> None:
    """Print both ratios for one variant and how far the scores differ."""
    theirs = reference(variant)
    ours = ours_like(theirs, variant).to(images.device)
    theirs.to(images.device)
    networks: list[tuple[nn.Module, Callable[[Tensor], Tensor]]] = [
        (theirs, lambda images: theirs(images).logits),
        (ours, ours),
    ]
    theirs.eval(), ours.eval()
    expected, scores = (infer(network, images)() for _, network in networks)
    difference = ((scores - expected).abs().max() / expected.abs().max()).item()
    report(f"{variant} inference", medians([infer(call, images) for _, call in networks], repeats))
    theirs.train(), ours.train()
    steps = [learn(module, call, images) for module, call in networks]
    report(f"{variant} forward and backward", medians(steps, repeats))
    print(
        f"{variant} largest difference of the scores, as a share of the largest: {difference:.1e}"
    )


def report(what: str, seconds: list[float]) -> None:
    """Print one ratio and where it comes from."""
    theirs, ours = seconds
    took = f"transformers {1e3 * theirs:.0f} ms, ours {1e3 * ours:.0f} ms"
    print(f"{what}: {theirs / ours:.2f}x ({took})", flush=True)


def main() -> None:
    """Read the command line and compare the variants asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=["b0", "b3"])
    parser.add_argument("--size", nargs=2, type=int, default=[512, 1024], help="rows columns")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    images = torch.randn(1, 3, *arguments.size, generator=torch.Generator().manual_seed(1))
    images = images.to(arguments.device)
    where = f"{arguments.device}, {arguments.threads} threads"
    print(f"torch {torch.__version__}, {where}, {arguments.size}, batch 1")
    for variant in arguments.variants:
        compare(variant, images, arguments.repeats)


if __name__ == "__main__":
    main()
