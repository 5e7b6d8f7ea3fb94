import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from segformer.explain.class_activation import class_activation
from segformer.model.segformer import SegFormer
from tests.segformer.explain.networks import odd_image, sharp_model


@pytest.fixture(scope="module")
def model() -> SegFormer:
    """A B0 in double precision, with statistics of BatchNorm that are not 0 and 1."""
    model = sharp_model()
    torch.nn.init.uniform_(model.decoder.norm.weight, -1, 2)
    torch.nn.init.normal_(model.decoder.norm.bias)
    assert model.decoder.norm.running_var is not None
    torch.nn.init.uniform_(model.decoder.norm.running_var, 0.5, 2)
    return model.double()


@pytest.fixture(scope="module")
def image() -> Tensor:
    """(3, 64, 101) float64."""
    return odd_image().double()


@pytest.fixture(scope="module")
def region() -> Tensor:
    """(64, 101) bool: a rectangle that cuts through tokens."""
    region = torch.zeros(64, 101, dtype=torch.bool)
    region[9:30, 50:71] = True
    return region


def test_input_gradient_equals_finite_differences(
    model: SegFormer, image: Tensor, region: Tensor
) -> None:
    """The largest change of the score per change of one channel of a pixel."""
    activation = class_activation(model, image, region, 2, method="input_gradient")
    assert (64, 101) == activation.shape
    step, rows, columns = 1e-4, [12, 40], [60, 100]
    offsets = torch.zeros(2, 3, *image.shape, dtype=image.dtype)  # (pixel, channel, 3, H, W)
    for pixel in range(2):
        for channel in range(3):
            offsets[pixel, channel, channel, rows[pixel], columns[pixel]] = step
    moved = torch.cat([image + offsets.flatten(0, 1), image - offsets.flatten(0, 1)])
    with torch.no_grad():
        scores = F.interpolate(model.eval()(moved), size=region.shape, mode="bilinear")
    upper, lower = scores[:, 2, region].mean(1).chunk(2)
    expected = ((upper - lower) / (2 * step)).abs().view(2, 3).amax(1).float()
    torch.testing.assert_close(expected, activation[rows, columns], rtol=1e-3, atol=0)


def test_grad_cam_equals_its_definition(model: SegFormer, image: Tensor, region: Tensor) -> None:
    """The decoder as published, layer by layer, with the gradient at the output of its norm."""
    decoder = model.eval().decoder
    with torch.no_grad():
        maps = model.encoder(image[None])
        size = maps[0].shape[1:3]
        unified = [
            F.interpolate(layer(grid).permute(0, 3, 1, 2), size=size, mode="bilinear")
            for layer, grid in zip(decoder.unify, maps, strict=True)
        ]
        fused = decoder.norm(decoder.mix(torch.cat(unified[::-1], dim=1)))
    fused.requires_grad_()
    scores = decoder.classify(F.relu(fused))
    with torch.no_grad():
        torch.testing.assert_close(model(image[None]), scores)
    resized = F.interpolate(scores, size=region.shape, mode="bilinear")
    resized[0, 2][region].mean().backward()
    assert fused.grad is not None
    alpha = fused.grad.mean((2, 3), keepdim=True)
    expected = F.relu((alpha * fused).sum(1))[0].detach().float()
    activation = class_activation(model, image, region, 2, method="grad_cam")
    assert 0 < expected.max()
    torch.testing.assert_close(expected, activation)


@pytest.mark.parametrize("method", ["grad_cam", "input_gradient"])
def test_region_and_class_matter(
    model: SegFormer, image: Tensor, region: Tensor, method: str
) -> None:
    """Another region or another class has another map."""
    first = class_activation(model, image, region, 2, method=method)  # type: ignore[arg-type]
    other_region = class_activation(model, image, ~region, 2, method=method)  # type: ignore[arg-type]
    other_class = class_activation(model, image, region, 1, method=method)  # type: ignore[arg-type]
    for other in (other_region, other_class):
        assert 0.01 < (first - other).abs().max() / first.max()


def test_model_is_not_changed(model: SegFormer, image: Tensor, region: Tensor) -> None:
    """The mode is restored, and no parameter has a gradient."""
    model.zero_grad()
    model.train()
    class_activation(model, image, region, 2, method="input_gradient")
    assert model.decoder.norm.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_bad_arguments_are_refused(model: SegFormer, image: Tensor, region: Tensor) -> None:
    """Each message has the allowed values."""
    for arguments, method, message in (
        ((image[None], region, 2), "grad_cam", r"give a single image, \(3, H, W\)"),
        ((image, region, 4), "grad_cam", "class 4 does not exist; choose from 0 to 3"),
        ((image, region & ~region, 2), "grad_cam", "with 0 pixels"),
        ((image, region, 2), "rollout", "'rollout'; choose from grad_cam, input_gradient"),
    ):
        with pytest.raises(ValueError, match=message):
            class_activation(model, *arguments, method=method)  # type: ignore[arg-type]
