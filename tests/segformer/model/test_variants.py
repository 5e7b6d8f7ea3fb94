import pytest
import torch

from segformer.model.segformer import SegFormer
from segformer.model.variants import VARIANTS, get_variant


@pytest.mark.parametrize(
    ("name", "millions"),
    [("b0", 3.7), ("b1", 13.7), ("b2", 27.4), ("b3", 47.2), ("b4", 64.0), ("b5", 84.6)],
)
def test_parameter_counts_match_the_paper(name: str, millions: float) -> None:
    """Every variant has the number of parameters printed in the paper, to the last digit."""
    with torch.device("meta"):
        model = SegFormer(name, num_classes=19)
    assert millions == round(sum(p.numel() for p in model.parameters()) / 1e6, 1)


def test_unknown_variant_is_refused() -> None:
    """A misspelled variant raises a ValueError that lists the choices."""
    with pytest.raises(
        ValueError, match=r"unknown variant 'b6'; choose from b0, b1, b2, b3, b4, b5"
    ):
        get_variant("b6")


def test_table_keys_are_variant_names() -> None:
    """The keys of the table are the names of its rows."""
    assert list(VARIANTS) == [get_variant(name).name for name in VARIANTS]
