import torch

from segformer.explain.places import token_shares


def test_shares_are_counts_of_pixels() -> None:
    """A token's share is its number of pixels of the region over all 9."""
    mask = torch.zeros(5, 7, dtype=torch.bool)
    mask[2:5, 3:6] = True  # 2 and 4 pixels above, 1 and 2 below
    shares = token_shares(mask, stride=4, size=(2, 2))
    torch.testing.assert_close(torch.tensor([2, 4, 1, 2]) / 9, shares)


def test_pixels_beyond_the_tokens_are_left_out() -> None:
    """With a single row of tokens the pixels below it do not count."""
    mask = torch.zeros(5, 7, dtype=torch.bool)
    mask[2:5, 3:6] = True
    shares = token_shares(mask, stride=4, size=(1, 2))
    torch.testing.assert_close(torch.tensor([2, 4]) / 6, shares)
