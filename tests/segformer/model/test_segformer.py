import pytest
import torch

from segformer.model.segformer import SegFormer


def test_scores_have_a_quarter_of_the_image_size() -> None:
    """Rows and columns of the scores are those of the image divided by 4, rounded up."""
    model = SegFormer("b0", num_classes=5).eval()
    assert (1, 5, 9, 17) == model(torch.randn(1, 3, 33, 65)).shape


def test_decoder_width_can_be_set() -> None:
    """`decoder_width` replaces the width of the variant."""
    model = SegFormer("b0", decoder_width=24)
    assert 24 == model.decoder_width
    assert (24, 96, 1, 1) == model.decoder.mix.weight.shape


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"variant": "b6"}, "unknown variant 'b6'"),
        ({"num_classes": 0}, "num_classes is 0; it must be 1 or more"),
        ({"decoder_width": -1}, "decoder_width is -1; it must be 1 or more"),
        ({"drop_path": 1.0}, "drop_path is 1.0; it must be at least 0 and less than 1"),
        ({"dropout": -0.1}, "dropout is -0.1; it must be at least 0 and less than 1"),
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, object], message: str) -> None:
    """Invalid arguments raise a ValueError with the allowed values."""
    with pytest.raises(ValueError, match=message):
        SegFormer(**values)


def test_half_precision_autocast_gives_close_scores() -> None:
    """Both modes run under bf16 autocast; evaluation agrees with float32 within its precision."""
    torch.manual_seed(0)
    model, images = SegFormer("b0").eval(), torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = model(images)
        with torch.autocast("cpu", torch.bfloat16):
            scores = model(images).float()
    assert 0.1 > (expected - scores).abs().max() / expected.abs().max()
    with torch.autocast("cpu", torch.bfloat16):
        model.train()(torch.randn(2, 3, 64, 96)).float().mean().backward()
