import pytest
import torch

from segformer.model.encoder import Encoder
from segformer.model.layers import DropPath
from segformer.model.variants import MIN_SIDE, get_variant


def test_four_maps_at_a_quarter_to_a_thirty_second() -> None:
    """Map sizes are the image's divided by 4, 8, 16 and 32, rounded up at every stage."""
    maps = Encoder(get_variant("b0"))(torch.randn(2, 3, 97, 131))
    assert [(2, 25, 33, 32), (2, 13, 17, 64), (2, 7, 9, 160), (2, 4, 5, 256)] == [
        tuple(grid.shape) for grid in maps
    ]


def test_maps_are_contiguous_tokens() -> None:
    """Every map lies in memory token by token, so that no later layer has to copy it."""
    assert all(
        grid.is_contiguous() for grid in Encoder(get_variant("b0"))(torch.randn(1, 3, 64, 64))
    )


def test_drop_path_rises_over_all_stages() -> None:
    """The rates of all blocks together are one line from 0 to the rate asked for."""
    encoder = Encoder(get_variant("b0"), drop_path=0.7)
    rates = [module.rate for module in encoder.modules() if isinstance(module, DropPath)]
    assert [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7] == pytest.approx(rates)


@pytest.mark.parametrize(("rows", "columns"), [(MIN_SIDE - 1, 64), (64, MIN_SIDE - 1)])
def test_too_small_images_are_refused(rows: int, columns: int) -> None:
    """An image too small for one key is a ValueError that says the least size."""
    with pytest.raises(ValueError, match=f"images of {rows}x{columns} pixels are too small.*29"):
        Encoder(get_variant("b0"))(torch.randn(1, 3, rows, columns))


def test_the_least_image_works() -> None:
    """The stated least size is enough."""
    maps = Encoder(get_variant("b0"))(torch.randn(1, 3, MIN_SIDE, MIN_SIDE))
    assert (1, 1, 1, 256) == maps[-1].shape
