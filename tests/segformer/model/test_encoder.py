import pytest
import torch

from segformer.model.encoder import Encoder
from segformer.model.layers import DropPath
from segformer.model.variants import MIN_SIDE, get_variant


def test_map_sizes_are_a_quarter_to_a_thirty_second() -> None:
    """Map sizes are those of the image divided by 4, 8, 16 and 32, rounded up at every stage."""
    maps = Encoder(get_variant("b0"))(torch.randn(2, 3, 97, 131))
    assert [(2, 25, 33, 32), (2, 13, 17, 64), (2, 7, 9, 160), (2, 4, 5, 256)] == [
        tuple(grid.shape) for grid in maps
    ]


def test_maps_are_contiguous() -> None:
    """Every map is contiguous as (b, h, w, c), so that no later layer has to copy it."""
    assert all(
        grid.is_contiguous() for grid in Encoder(get_variant("b0"))(torch.randn(1, 3, 64, 64))
    )


def test_drop_path_rises_over_all_stages() -> None:
    """The rates of all blocks rise linearly from 0 to the requested rate."""
    encoder = Encoder(get_variant("b0"), drop_path=0.7)
    rates = [module.rate for module in encoder.modules() if isinstance(module, DropPath)]
    assert [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7] == pytest.approx(rates)


@pytest.mark.parametrize(("rows", "columns"), [(MIN_SIDE - 1, 64), (64, MIN_SIDE - 1)])
def test_too_small_images_are_refused(rows: int, columns: int) -> None:
    """An image too small for one key raises a ValueError with the minimum size."""
    with pytest.raises(ValueError, match=f"images of {rows}x{columns} pixels are too small.*29"):
        Encoder(get_variant("b0"))(torch.randn(1, 3, rows, columns))


def test_minimum_size_works() -> None:
    """An image of the minimum size is accepted."""
    maps = Encoder(get_variant("b0"))(torch.randn(1, 3, MIN_SIDE, MIN_SIDE))
    assert (1, 1, 1, 256) == maps[-1].shape
