import math

import pytest
import torch

from segformer.cityscapes import IGNORE
from segformer.vit.cls_statistics import cls_statistics


def test_a_case_by_hand() -> None:
    """The share on a class, its lift, and the entropy, of 2 x 2 patches of 2 x 2 pixels."""
    maps = torch.tensor([[[0.4, 0.2], [0.1, 0.1]], [[0.25, 0.25], [0.25, 0.25]]])
    labels = torch.tensor([[0, 0, 1, 1], [0, 0, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]])
    statistics = cls_statistics(maps, labels, 3, block=11)
    assert (0, 11) == (statistics.stage, statistics.block)
    # The first head's weights sum to 0.8, because the CLS token keeps 0.2.
    torch.testing.assert_close(torch.tensor([0.25, 0.75, 0]), statistics.key_share)
    torch.testing.assert_close(torch.tensor([[0.5, 0.5, 0], [0.25, 0.75, 0]]), statistics.attended)
    torch.testing.assert_close(torch.tensor([2.0, 1.0]), statistics.lift[:, 0])
    shares = [0.5, 0.25, 0.125, 0.125]
    entropy = -sum(share * math.log(share) for share in shares) / math.log(4)
    torch.testing.assert_close(torch.tensor([entropy, 1.0]), statistics.entropy)
    assert bool(statistics.distance.isnan().all())


def test_void_pixels_count_for_nothing() -> None:
    """A patch that is void is left out of the attention and of the shares."""
    maps = torch.tensor([[[0.7, 0.2, 0.1]]])
    statistics = cls_statistics(maps, torch.tensor([[IGNORE, 0, 1]]), 2, block=0)
    torch.testing.assert_close(torch.tensor([[2 / 3, 1 / 3]]), statistics.attended)
    torch.testing.assert_close(torch.tensor([0.5, 0.5]), statistics.key_share)


def test_labels_of_another_size_are_matched_to_the_patches() -> None:
    """Labels at the photograph's size give the same as labels at the size of the patches."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(2, 3, 5, generator=generator) / 15
    labels = torch.randint(0, 4, (3, 5), generator=generator)
    large = labels.repeat_interleave(7, 0).repeat_interleave(7, 1)
    small, resized = (cls_statistics(maps, each, 4, block=0) for each in (labels, large))
    torch.testing.assert_close(small.attended, resized.attended)


def test_labels_without_a_class_are_refused() -> None:
    """Labels that are all void are an error."""
    with pytest.raises(ValueError, match="all pixels of the labels are void"):
        cls_statistics(torch.ones(1, 2, 2) / 4, torch.full((4, 4), IGNORE), 3, block=0)
