import pytest
import torch
from transformers import ViTModel

from segformer.vit.model import VisionTransformer, nearest_multiple, resize_positions
from segformer.vit.variants import VARIANTS, VitVariant, get_variant
from tests.segformer.vit.reference import build_reference, copy_weights


@pytest.fixture(scope="module", params=["dino-vits16", "dino-vits8"])
def networks(request: pytest.FixtureRequest) -> tuple[ViTModel, VisionTransformer]:
    """The network of transformers, of a variant, and ours with the same weights."""
    variant = VARIANTS[request.param]
    reference = build_reference(variant, seed=0)
    return reference, copy_weights(reference, variant)


@pytest.mark.parametrize("patches", [(14, 14), (3, 5)])
def test_equal_to_transformers(
    networks: tuple[ViTModel, VisionTransformer], patches: tuple[int, int]
) -> None:
    """Hidden states and the CLS row of the last attention are transformers', within 1e-5.

    With patches of 16 the first grid is the trained one; the others need other positions.
    """
    reference, model = networks
    size = [model.variant.patch * side for side in patches]
    images = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = reference(images, interpolate_pos_encoding=True, output_attentions=True)
        hidden, maps = model(images), model.cls_attention(images)
    cls_row = expected.attentions[-1][:, :, 0, 1:]
    assert 3 * cls_row.mean() < cls_row.max()  # far from uniform
    torch.testing.assert_close(hidden, expected.last_hidden_state, rtol=0, atol=1e-5)
    torch.testing.assert_close(maps, cls_row.view_as(maps), rtol=0, atol=1e-5)


def test_a_batch_gives_the_maps_of_its_images() -> None:
    """The maps of a batch are those of its images; a head's weights and the CLS token's are 1."""
    variant = VitVariant("tiny", patch=16, width=24, depth=2, heads=3)
    model = copy_weights(build_reference(variant, seed=2), variant)
    images = torch.randn(2, 3, 32, 64, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        maps = model.cls_attention(images)
        singles = torch.cat([model.cls_attention(image[None]) for image in images])
    assert (2, 3, 2, 4) == maps.shape
    torch.testing.assert_close(maps, singles)
    assert bool((maps.sum((2, 3)) < 1).all())


def test_positions_of_the_trained_size_are_unchanged() -> None:
    """A grid of the trained size is returned as it is; another keeps the CLS token's position."""
    positions = torch.randn(1, 1 + 16, 5, generator=torch.Generator().manual_seed(4))
    assert torch.equal(positions, resize_positions(positions, (4, 4)))
    resized = resize_positions(positions, (2, 8))
    assert (1, 1 + 16, 5) == resized.shape
    assert torch.equal(positions[:, 0], resized[:, 0])


def test_positions_vary_along_the_right_axis() -> None:
    """Positions that depend on the column alone still do after resizing to another shape."""
    columns = torch.arange(4.0).expand(4, 4).reshape(1, 16, 1)
    resized = resize_positions(torch.cat([torch.zeros(1, 1, 1), columns], 1), (2, 8))
    grid = resized[0, 1:, 0].view(2, 8)
    torch.testing.assert_close(grid[0], grid[1])
    assert bool((grid[0].diff() > 0).all())


@pytest.mark.parametrize("size", [(33, 64), (32, 60)])
def test_a_cut_patch_is_refused(size: tuple[int, int]) -> None:
    """A size that is not a whole number of patches is an error that names the nearest size."""
    model = VisionTransformer(VitVariant("tiny", patch=16, width=24, depth=1, heads=3))
    with pytest.raises(ValueError, match="needs multiples of 16; resize them to 32 x 64"):
        model.cls_attention(torch.zeros(1, 3, *size))


def test_the_nearest_multiple_is_never_zero() -> None:
    """Sides are rounded to the nearest multiple, small ones up to a whole patch."""
    assert [8, 8, 16, 16] == [nearest_multiple(side, 8) for side in (1, 11, 13, 16)]


def test_parameters_are_those_of_the_papers() -> None:
    """The numbers of parameters are 21 and 85 million, as in table 1 of the paper."""
    with torch.device("meta"):
        counts = {
            name: sum(parameter.numel() for parameter in VisionTransformer(variant).parameters())
            for name, variant in VARIANTS.items()
        }
    # The patches of 8 x 8 have 588 more positions and 576 fewer pixels of three colors.
    assert {
        "dino-vits16": 21_665_664,
        "dino-vits8": 21_665_664 + 588 * 384 - 576 * 384,
        "dino-vitb16": 85_798_656,
        "dino-vitb8": 85_798_656 + 588 * 768 - 576 * 768,
    } == counts


def test_an_unknown_variant() -> None:
    """The message lists the four variants."""
    with pytest.raises(ValueError, match="unknown variant 'dino-vitl16'; choose from dino-vits16,"):
        get_variant("dino-vitl16")
