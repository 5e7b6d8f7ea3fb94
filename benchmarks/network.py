"""Time and memory of our SegFormer against transformers': `python -m benchmarks.network`.

All networks compute scores at a quarter of the size from the same images, with the same weights, in
turns; the ratio is the result. The third network is ours with the decoder as published: its gain is
not due to the decoder. Peak memory is that beyond the weights and the images.
"""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from benchmarks.measure import cpu_peak_mib, gpu_peak_mib, median_seconds, run_benchmark
from segformer.cityscapes import NUM_CLASSES
from segformer.model.decoder import MlpDecoder
from segformer.model.segformer import SegFormer
from segformer.model.variants import VARIANTS, get_variant
from segformer.weights.interop import load_model

Call = Callable[[Tensor], Tensor]


def build_reference(variant: str) -> nn.Module:
    """Build transformers' network of the variant, with random weights and batch statistics."""
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


def build_ours(network: nn.Module, variant: str) -> SegFormer:
    """Build our network with the weights of transformers', loaded from a file."""
    model = SegFormer(variant, drop_path=0.0, dropout=0.0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "reference.pth"
        torch.save(network.state_dict(), path)
        load_model(model, path)
    return model


class PublishedDecoder(MlpDecoder):
    """The order of the paper: project and resize every map, stack all, fuse at full size."""

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Four (b, h, w, c), finest first -> (b, k, h, w)."""
        size = maps[0].shape[1:3]
        resized = [
            F.interpolate(linear(grid).permute(0, 3, 1, 2), size, mode="bilinear")
            for linear, grid in zip(self.unify, maps, strict=True)
        ]
        mixed = F.relu(self.norm(self.mix(torch.cat(resized[::-1], dim=1))))
        scores: Tensor = self.classify(self.dropout(mixed))
        return scores


def build_networks(variant: str) -> dict[str, tuple[nn.Module, Call]]:
    """Build all three with the same weights, each with a function from images to scores."""
    theirs = build_reference(variant)
    ours, as_published = build_ours(theirs, variant), build_ours(theirs, variant)
    as_published.decoder.__class__ = PublishedDecoder  # the same layers, in another order
    return {
        "transformers": (theirs, lambda images: theirs(images).logits),
        "as published": (as_published, as_published),
        "ours": (ours, ours),
    }


def make_inference(module: nn.Module, call: Call, images: Tensor) -> Callable[[], Tensor]:
    """Return a function that runs a network once without gradients."""
    module.eval()

    def infer() -> Tensor:
        with torch.inference_mode():
            return call(images)

    return infer


def make_training_step(module: nn.Module, call: Call, images: Tensor) -> Callable[[], None]:
    """Return a function that runs a network forward and backward, with batch statistics."""
    module.train()

    def step() -> None:
        module.zero_grad()
        torch.autograd.backward(call(images).square().mean())

    return step


MODES: dict[str, Callable[[nn.Module, Call, Tensor], Callable[[], object]]] = {
    "inference": make_inference,
    "forward and backward": make_training_step,
}


def random_images(arguments: argparse.Namespace) -> Tensor:
    """Return one random image, (1, 3, H, W)."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(1, 3, *arguments.size, generator=generator).to(arguments.device)


def compare(variant: str, arguments: argparse.Namespace) -> None:
    """Print one row per mode, and the largest difference of the scores."""
    images = random_images(arguments)
    all_networks = build_networks(variant)
    for module, _ in all_networks.values():
        module.to(images.device)
    expected, *others = (make_inference(*network, images)() for network in all_networks.values())
    difference = max((scores - expected).abs().max() for scores in others) / expected.abs().max()
    for mode, prepare in MODES.items():
        runs = [prepare(*network, images) for network in all_networks.values()]
        times = median_seconds(runs, arguments.repeats)
        del runs
        peaks = [measure_peak(variant, name, mode, arguments) for name in all_networks]
        row = "".join(
            f"{name} {1e3 * seconds:.0f} ms {mib:.0f} MiB"
            + ("" if name == "ours" else f" ({seconds / times[-1]:.2f}x, {mib / peaks[-1]:.2f}x); ")
            for name, seconds, mib in zip(all_networks, times, peaks, strict=True)
        )
        print(f"{variant} {mode}: {row}", flush=True)
    print(f"{variant} largest difference of the scores, relative to the largest: {difference:.1e}")


def measure_peak(variant: str, name: str, mode: str, arguments: argparse.Namespace) -> float:
    """Return the peak memory of a network in MiB."""
    if arguments.device == "cpu":
        options = ["--size", *map(str, arguments.size), "--threads", str(arguments.threads)]
        return run_benchmark("network", "--peak-of", variant, name, mode, *options)
    module, call = build_networks(variant)[name]
    module.to(arguments.device)
    run = MODES[mode](module, call, random_images(arguments))
    run()
    return gpu_peak_mib(run)


def main() -> None:
    """Read the command line and compare the variants asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=["b0", "b3"])
    parser.add_argument("--size", nargs=2, type=int, default=[512, 1024], help="rows and columns")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--peak-of", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.peak_of:
        variant, name, mode = arguments.peak_of
        run = MODES[mode](*build_networks(variant)[name], random_images(arguments))
        print(cpu_peak_mib(run))
        return
    where = f"{arguments.device}, {arguments.threads} threads"
    print(f"torch {torch.__version__}, {where}, {arguments.size}, batch 1")
    print("In brackets: time and memory relative to ours.")
    for variant in arguments.variants:
        compare(variant, arguments)


if __name__ == "__main__":
    main()
