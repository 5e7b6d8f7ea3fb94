import pytest
import torch

from segformer.model.segformer import SegFormer
from segformer.model.variants import VARIANTS, get_variant


@pytest.mark.parametrize(
    ("name", "millions"),
    [("b0", 3.7), ("b1", 13.7), ("b2", 27.4), ("b3", 47.2), ("b4", 64.0), ("b5", 84.6)],
)
def test_parameter_counts_are_the_papers(name: str, millions: float) -> None:
    """Every variant has as many parameters as the paper prints, to its last digit."""
    with torch.device("meta"):
        model = SegFormer(name, num_classes=19)
    assert millions == round(sum(p.numel() for p in model.parameters()) / 1e6, 1)


def test_an_unknown_variant_is_refused_with_the_known_ones() -> None:
    """A misspelt variant is a ValueError that lists what can be chosen."""
    with pytest.raises(
        ValueError, match=r"unknown variant 'b6'; choose from b0, b1, b2, b3, b4, b5"
    ):
        get_variant("b6")


def test_every_variant_is_found_by_its_own_name() -> None:
    """The table's keys are the names of its rows."""
    assert list(VARIANTS) == [get_variant(name).name for name in VARIANTS]
