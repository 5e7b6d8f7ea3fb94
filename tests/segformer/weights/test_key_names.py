from functools import cache

import pytest
import torch
from torch import Tensor
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from segformer.model.segformer import SegFormer
from segformer.model.variants import VARIANTS, get_variant
from segformer.weights.key_names import FORMATS, Format, from_format, to_format

BY_NAME = {form.name: form for form in FORMATS}


@cache
def number_rows(variant: str) -> dict[str, Tensor]:
    """The tensors of a model, each row filled with its own number, in the memory of its rows."""
    with torch.device("meta"):
        shapes = SegFormer(variant).state_dict()
    shapes.pop("decoder.norm.num_batches_tracked")
    heights = [len(tensor) for tensor in shapes.values()]
    rows = iter(torch.arange(sum(heights)).split(heights))
    return {
        name: next(rows).view(-1, *[1] * (tensor.ndim - 1)).expand(tensor.shape)
        for name, tensor in shapes.items()
    }


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_format_can_be_inverted(variant: str, form: Format) -> None:
    """Renaming to a format and back changes nothing: the encoder, and the decoder if any."""
    ours, depths = number_rows(variant), get_variant(variant).depths
    back = from_format(to_format(ours, form, depths), form, depths)
    expected = {name: t for name, t in ours.items() if form.decoder or name.startswith("encoder.")}
    assert expected.keys() == back.keys()
    for name, tensor in expected.items():
        assert tensor.shape == back[name].shape
        assert torch.equal(tensor, back[name])


@pytest.mark.parametrize("variant", VARIANTS)
def test_names_and_shapes_equal_those_of_transformers(variant: str) -> None:
    """For every variant, transformers' network in memory has the names of our table, no more."""
    size = get_variant(variant)
    config = SegformerConfig(
        depths=size.depths,
        hidden_sizes=size.widths,
        decoder_hidden_size=size.decoder_width,
        num_labels=19,
    )
    with torch.device("meta"):
        theirs = SegformerForSemanticSegmentation(config).state_dict()
    expected = {name: t.shape for name, t in theirs.items() if "tracked" not in name}
    actual = to_format(number_rows(variant), BY_NAME["Hugging Face in memory"], size.depths)
    assert expected == {name: tensor.shape for name, tensor in actual.items()}
