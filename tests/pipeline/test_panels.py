from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.panels import Scene, draw_panel, error_map, error_share
from segformer.cityscapes import IGNORE


def make_scene() -> Scene:
    """Four pixels: right, wrong, void predicted as road, and wrong."""
    truth = np.array([[0, 1], [IGNORE, 2]], dtype=np.uint8)
    predicted = np.array([[0, 0], [0, 0]], dtype=np.uint8)
    photograph = np.full((2, 2, 3), 200, dtype=np.uint8)
    return Scene("val/avalon/avalon_000000_000019", photograph, truth, predicted)


def test_error_map_tells_right_wrong_and_void_apart() -> None:
    """Right is pale grey, wrong is red, and void is dark whatever was predicted there."""
    picture = error_map(make_scene())
    assert [230, 0, 60] == picture[0, 1].tolist() == picture[1, 1].tolist()
    assert [25, 25, 25] == picture[1, 0].tolist()
    assert [230, 230, 230] == picture[0, 0].tolist()


def test_error_share_counts_labelled_pixels_only() -> None:
    """Two of three labelled pixels are wrong; with none labelled there is no share."""
    assert error_share(make_scene()) == pytest.approx(2 / 3)
    void = np.full((2, 2), IGNORE, dtype=np.uint8)
    assert np.isnan(error_share(Scene("k", np.zeros((2, 2, 3), np.uint8), void, void)))


def test_panel_is_the_same_file_each_time(tmp_path: Path) -> None:
    """A panel is a PNG of some size, and drawing it again gives the same bytes."""
    for name in ("one.png.part", "two.png.part"):
        draw_panel(make_scene(), "title", "subtitle", tmp_path / name)
    assert (tmp_path / "one.png.part").read_bytes() == (tmp_path / "two.png.part").read_bytes()
    with Image.open(tmp_path / "one.png.part") as picture:
        assert "PNG" == picture.format
        assert 1650 == picture.size[0]
