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
def numbered(variant: str) -> dict[str, Tensor]:
    """A model's tensors, each row of each with a number of its own, in the memory of its rows."""
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
def test_every_table_is_read_both_ways(variant: str, form: Format) -> None:
    """What is renamed to a format and back is what it was: the encoder, and the decoder if any."""
    ours, depths = numbered(variant), get_variant(variant).depths
    back = from_format(to_format(ours, form, depths), form, depths)
    expected = {name: t for name, t in ours.items() if form.decoder or name.startswith("encoder.")}
    assert expected.keys() == back.keys()
    for name, tensor in expected.items():
        assert tensor.shape == back[name].shape
        assert torch.equal(tensor, back[name])


@pytest.mark.parametrize("variant", VARIANTS)
def test_hugging_faces_own_network_has_the_names_and_shapes(variant: str) -> None:
    """For every variant, transformers' network has in memory what our table says, no more."""
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
    found = to_format(numbered(variant), BY_NAME["Hugging Face in memory"], size.depths)
    assert expected == {name: tensor.shape for name, tensor in found.items()}
