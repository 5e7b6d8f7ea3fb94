import pytest
import torch
from torch import Tensor

from segformer.explain.scale_contributions import scale_contributions
from segformer.model.segformer import SegFormer
from tests.segformer.explain.networks import odd_image, sharp_model


@pytest.fixture(scope="module")
def model() -> SegFormer:
    """A B0 whose BatchNorm and biases are not those of the start."""
    model = sharp_model()
    torch.nn.init.uniform_(model.decoder.norm.weight, -1, 2)
    torch.nn.init.normal_(model.decoder.norm.bias)
    assert model.decoder.classify.bias is not None
    torch.nn.init.normal_(model.decoder.classify.bias)
    return model


@pytest.fixture(scope="module")
def image() -> Tensor:
    """(3, 64, 101): no stride divides its columns."""
    return odd_image()


@pytest.mark.parametrize("class_id", range(4))
def test_parts_sum_to_the_score(model: SegFormer, image: Tensor, class_id: int) -> None:
    """All parts together are the score minus the mean over the classes."""
    with torch.no_grad():
        scores = model.eval()(image[None])[0]
    parts = scale_contributions(model, image, class_id)
    assert (4, 16, 26) == parts.maps.shape
    expected = scores[class_id] - scores.mean(0)
    torch.testing.assert_close(expected, parts.maps.sum(0) + parts.bias, atol=1e-5, rtol=1e-4)


def test_part_is_the_gradient_times_the_map(model: SegFormer, image: Tensor) -> None:
    """The part of a map is its product with the gradient, summed over the image."""
    model.eval()
    with torch.no_grad():
        maps = model.encoder(image[None])
    for grid in maps:
        grid.requires_grad_()
    scores = model.decoder(maps)[0]
    (scores[1] - scores.mean(0)).sum().backward()
    parts = scale_contributions(model, image, 1)
    expected = torch.stack([(grid * grid.grad).sum() for grid in maps])
    torch.testing.assert_close(expected, parts.maps.sum((1, 2)), rtol=1e-4, atol=1e-3)


def test_bad_arguments_are_refused(model: SegFormer, image: Tensor) -> None:
    """A batch, and a class that does not exist."""
    with pytest.raises(ValueError, match=r"give a single image, \(3, H, W\)"):
        scale_contributions(model, image[None], 1)
    with pytest.raises(ValueError, match="class 4 does not exist; choose from 0 to 3"):
        scale_contributions(model, image, 4)
