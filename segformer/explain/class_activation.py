"""Class activation: the parts of an image that raise the score of a class in a region."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from segformer.explain.places import place_mask
from segformer.inference.segment import eval_mode, resize_scores
from segformer.model.decoder import sum_resized
from segformer.model.segformer import SegFormer

Method = Literal["grad_cam", "input_gradient"]


def class_activation(
    model: SegFormer, image: Tensor, region: Tensor, class_id: int, *, method: Method
) -> Tensor:
    """Explain S, the mean score of a class over a region, resized to the image and before softmax.

    - `"input_gradient"`: `max_c |dS / dx_c|` per pixel, the class saliency of section 3 of
      arXiv:1312.6034. It shows which pixels S is sensitive to, wherever they are, for or against;
      it is noisy, and not a share of S.
    - `"grad_cam"`: Grad-CAM (arXiv:1610.02391) at the decoder's fused map M, (width, h, w), the sum
      of the four scales after BatchNorm and before ReLU: `relu(sum_c alpha_c M_c)`, with alpha_c
      the mean over positions of dS / dM_c. It shows which places resemble the region in the
      channels that speak for the class. After the ReLU the map would be that of the class's scores
      for every region, since the classifier is linear. No earlier map is offered: each of them has
      been fused with coarser ones, so a map of one scale is not what the score is made of.

    The values are not scaled to 0..1, so that frames can be compared; divide by the maximum to
    draw.

    Args:
        model: in any mode; evaluated in evaluation mode, otherwise unchanged.
        image: (3, H, W) normalized, on the model's device.
        region: (H, W) bool.
        class_id: 0..k-1.
        method: as above.

    Returns:
        float32, 0 or more. "input_gradient": (H, W), score per unit of normalized input;
        "grad_cam": (ceil(H / 4), ceil(W / 4)), score per position of the fused map.

    Raises:
        ValueError: for an unknown method or class, a batch, or a region of another size or without
            a pixel.
    """
    if image.ndim != 3:
        raise ValueError(f"image is {tuple(image.shape)}; give a single image, (3, H, W)")
    if not 0 <= class_id < model.num_classes:
        raise ValueError(
            f"class {class_id} does not exist; choose from 0 to {model.num_classes - 1}"
        )
    mask = place_mask(region, (image.shape[1], image.shape[2])).to(image.device)
    with eval_mode(model), torch.enable_grad():
        if method == "input_gradient":
            return _input_gradient(model, image, mask, class_id)
        if method == "grad_cam":
            return _grad_cam(model, image, mask, class_id)
    raise ValueError(f"unknown method {method!r}; choose from grad_cam, input_gradient")


def _input_gradient(model: SegFormer, image: Tensor, mask: Tensor, class_id: int) -> Tensor:
    pixels = image.detach().clone().requires_grad_()
    score = _mean_score(model(pixels[None]), mask, class_id)
    (gradient,) = torch.autograd.grad(score, pixels)
    return gradient.abs().amax(0).float()


def _grad_cam(model: SegFormer, image: Tensor, mask: Tensor, class_id: int) -> Tensor:
    decoder = model.decoder
    with torch.no_grad():
        fused = sum_resized(model.encoder(image[None]), *decoder.fold_batch_norm())
    fused.requires_grad_()  # (1, h, w, width)
    scores = decoder.classify(F.relu(fused).permute(0, 3, 1, 2))
    (gradient,) = torch.autograd.grad(_mean_score(scores, mask, class_id), fused)
    alpha = gradient.mean((1, 2))  # (1, width)
    return F.relu(fused.detach()[0] @ alpha[0]).float()


def _mean_score(scores: Tensor, mask: Tensor, class_id: int) -> Tensor:
    """The mean over the mask (H, W) of the class's score in (1, k, h, w), resized."""
    return resize_scores(scores[:, class_id : class_id + 1], mask.shape)[0, 0][mask].mean()
