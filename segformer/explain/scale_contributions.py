"""Scale contributions: the part of each of the four feature maps in a class's score."""

from dataclasses import dataclass

import torch
from torch import Tensor

from segformer.inference.segment import eval_mode
from segformer.model.cpu_kernels import resize
from segformer.model.segformer import SegFormer


@dataclass(frozen=True)
class ScaleContributions:
    """Parts of a class's score: `maps.sum(0) + bias` is the score minus the mean of all classes.

    Attributes:
        maps: (4, h, w) float32, the part of each feature map, finest first, in units of the score.
        bias: (h, w) float32, the part of the biases, which no feature map enters but through the
            ReLU.
    """

    maps: Tensor
    bias: Tensor


def scale_contributions(model: SegFormer, image: Tensor, class_id: int) -> ScaleContributions:
    """Split the score of a class by the feature map that it comes from, exactly.

    The decoder adds the four maps, each through a matrix of its own, before its only nonlinearity,
    a ReLU (BatchNorm is linear in evaluation): `score = v . relu(sum_s W_s x_s + b) + c`. With the
    open channels of the ReLU, g = 1 where its input is above 0, this is
    `sum_s v . (g * W_s x_s) + v . (g * b) + c`. The sum is exact, but g depends on all four maps:
    a part says what a map adds in this pass, not what the score would be without it.

    Adding a number to the scores of all classes changes no prediction. So v and c are those of the
    class minus the mean over all classes: a part above 0 speaks for the class.

    Args:
        model: in any mode; evaluated in evaluation mode, otherwise unchanged.
        image: (3, H, W) normalized, on the model's device.
        class_id: 0..k-1.

    Returns:
        Maps of ceil(H / 4) x ceil(W / 4).

    Raises:
        ValueError: for a batch or a class that does not exist.
    """
    if image.ndim != 3:
        raise ValueError(f"image is {tuple(image.shape)}; give a single image, (3, H, W)")
    if not 0 <= class_id < model.num_classes:
        raise ValueError(
            f"class {class_id} does not exist; choose from 0 to {model.num_classes - 1}"
        )
    decoder = model.decoder
    with eval_mode(model):
        grids = model.encoder(image[None])
        matrices, bias = decoder.fold_batch_norm()
        size = grids[0].shape[1:3]
        parts = [
            resize(grid @ matrix.T, size)[0] for grid, matrix in zip(grids, matrices, strict=True)
        ]  # (h, w, width) each
        is_open = torch.stack(parts).sum(0) + bias > 0
        weight = decoder.classify.weight.flatten(1)  # (k, width)
        centered = weight[class_id] - weight.mean(0)
        maps = [(part * is_open) @ centered for part in parts]
        rest = (bias * is_open) @ centered
        assert decoder.classify.bias is not None
        rest = rest + decoder.classify.bias[class_id] - decoder.classify.bias.mean()
    return ScaleContributions(torch.stack(maps).float(), rest.float())
