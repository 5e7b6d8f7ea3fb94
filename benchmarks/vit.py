"""Six attention heads of DINO's ViT-S/8 against transformers': `python -m benchmarks.vit`.

Both compute the attention of the CLS token to every patch in the last block, from the same image
with the same random weights, in turns; the ratio is the result. transformers uses its eager
attention with `output_attentions`, the only one of its implementations that returns weights. Peak
memory is that beyond the weights and the image.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from transformers import ViTConfig, ViTModel

from benchmarks.measure import cpu_peak_mib, median_seconds, run_benchmark
from segformer.vit.model import NORM_EPS
from segformer.vit.variants import EXPANSION, TRAINING_SIDE, VARIANTS, get_variant
from segformer.vit.weights import load_vit

TOLERANCE = 1e-5
"""Largest accepted difference of two attention weights."""


def build_networks(name: str) -> dict[str, Callable[[Tensor], Tensor]]:
    """Build the functions from images (b, 3, H, W) to maps (b, a, h, w), with equal weights."""
    variant = get_variant(name)
    config = ViTConfig(
        hidden_size=variant.width,
        num_hidden_layers=variant.depth,
        num_attention_heads=variant.heads,
        intermediate_size=EXPANSION * variant.width,
        patch_size=variant.patch,
        image_size=TRAINING_SIDE,
        layer_norm_eps=NORM_EPS,
        attn_implementation="eager",
    )
    torch.manual_seed(0)
    reference = ViTModel(config, add_pooling_layer=False).eval()
    for layer in reference.layers:
        for projection in (layer.attention.q_proj, layer.attention.k_proj):
            projection.weight.data *= 5  # an attention that is far from uniform
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "reference.bin"
        torch.save(reference.state_dict(), path)
        model = load_vit(path, name)

    def compute_reference_maps(images: Tensor) -> Tensor:
        output = reference(images, interpolate_pos_encoding=True, output_attentions=True)
        h, w = (side // variant.patch for side in images.shape[2:])
        maps: Tensor = output.attentions[-1][:, :, 0, 1:].unflatten(2, (h, w))
        return maps

    return {"transformers": compute_reference_maps, "ours": model.cls_attention}


def compare_networks(arguments: argparse.Namespace) -> None:
    """Print times, processor times, peaks and the largest difference of the maps.

    Raises:
        SystemExit: if the maps differ.
    """
    networks = build_networks(arguments.variant)
    images = torch.randn(1, 3, *arguments.size)
    reference, ours = (network(images) for network in networks.values())
    calls = {name: CountedCall(network, images) for name, network in networks.items()}
    times = median_seconds(list(calls.values()), arguments.repeats)
    options = ["--variant", arguments.variant, "--size", *map(str, arguments.size)]
    options += ["--threads", str(arguments.threads)]
    peaks = [run_benchmark("vit", "--peak-of", name, *options) for name in networks]
    processor_times = [call.median_processor_seconds() for call in calls.values()]
    for values, unit in ((times, "s"), (processor_times, "s of processor time"), (peaks, "MiB")):
        row = ", ".join(f"{name} {value:.3g}" for name, value in zip(networks, values, strict=True))
        print(f"{arguments.variant}, {unit}: {row} ({values[0] / values[1]:.2f}x)", flush=True)
    difference = float((reference - ours).abs().max())
    print(f"largest weight {ours.max():.1e}, largest difference {difference:.1e}")
    if difference > TOLERANCE:
        raise SystemExit(f"the maps differ by more than {TOLERANCE:g}")


class CountedCall:
    """A call that also measures the processor time of this process, over all threads."""

    def __init__(self, network: Callable[[Tensor], Tensor], images: Tensor) -> None:
        self._network = network
        self._images = images
        self._seconds: list[float] = []

    def __call__(self) -> None:
        """Compute the maps."""
        start = time.process_time()
        self._network(self._images)
        self._seconds.append(time.process_time() - start)

    def median_processor_seconds(self) -> float:
        """The median of all calls but the first."""
        return float(torch.tensor(self._seconds[1:]).quantile(0.5))


def main() -> None:
    """Read the command line and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variant", choices=VARIANTS, default="dino-vits8")
    parser.add_argument("--size", nargs=2, type=int, default=[256, 512], help="rows and columns")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with torch.inference_mode():
        if arguments.peak_of:
            network = build_networks(arguments.variant)[arguments.peak_of]
            images = torch.randn(1, 3, *arguments.size)
            print(cpu_peak_mib(lambda: network(images)))
            return
        print(f"torch {torch.__version__}, {arguments.threads} threads, {arguments.size}, batch 1")
        compare_networks(arguments)


if __name__ == "__main__":
    main()
