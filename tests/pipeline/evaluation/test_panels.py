from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.evaluation.panels import (
    FramePanel,
    compute_error_share,
    draw_error_map,
    draw_panel,
    draw_panels,
    select_frames,
)
from segformer.cityscapes import IGNORE


def make_scene() -> FramePanel:
    """Four pixels: right, wrong, void predicted as road, and wrong."""
    truth = np.array([[0, 1], [IGNORE, 2]], dtype=np.uint8)
    predicted = np.array([[0, 0], [0, 0]], dtype=np.uint8)
    photograph = np.full((2, 2, 3), 200, dtype=np.uint8)
    return FramePanel("val/avalon/avalon_000000_000019", photograph, truth, predicted)


def test_error_map_tells_right_wrong_and_void_apart() -> None:
    """Right is pale grey, wrong is red, and void is dark whatever was predicted there."""
    picture = draw_error_map(make_scene())
    assert [230, 0, 60] == picture[0, 1].tolist() == picture[1, 1].tolist()
    assert [25, 25, 25] == picture[1, 0].tolist()
    assert [230, 230, 230] == picture[0, 0].tolist()


def test_error_share_counts_labelled_pixels_only() -> None:
    """Two of three labelled pixels are wrong; with none labelled there is no share."""
    assert compute_error_share(make_scene()) == pytest.approx(2 / 3)
    void = np.full((2, 2), IGNORE, dtype=np.uint8)
    assert np.isnan(compute_error_share(FramePanel("k", np.zeros((2, 2, 3), np.uint8), void, void)))


def test_panel_is_the_same_file_each_time(tmp_path: Path) -> None:
    """A panel is a PNG of some size, and drawing it again gives the same bytes."""
    for name in ("one.png.part", "two.png.part"):
        draw_panel(make_scene(), "title", "subtitle", tmp_path / name)
    assert (tmp_path / "one.png.part").read_bytes() == (tmp_path / "two.png.part").read_bytes()
    with Image.open(tmp_path / "one.png.part") as picture:
        assert "PNG" == picture.format
        assert 1650 == picture.size[0]


def make_table(miou: list[float]) -> pd.DataFrame:
    """Frames a, b, c, ... with these scores."""
    return pd.DataFrame({"frame": [f"val/x/{chr(97 + i)}" for i in range(len(miou))], "miou": miou})


def test_worst_and_typical_frames_are_chosen() -> None:
    """The two lowest, then the two nearest to the median 0.5, and no frame without a score."""
    shown = select_frames(make_table([0.9, 0.1, 0.5, np.nan, 0.2, 0.52]), worst=2, typical=2)
    assert ["worst_01_b.png", "worst_02_e.png", "typical_01_c.png", "typical_02_f.png"] == [
        one.file for one in shown
    ]
    assert "rank 2 by lowest mIoU of 5 frames" == shown[1].reason
    assert 0.2 == shown[1].miou


def test_no_frame_is_both_worst_and_typical() -> None:
    """Where fewer frames are there than are wanted, each is shown once."""
    keys = [one.key for one in select_frames(make_table([0.3, 0.1, 0.2]), worst=2, typical=10)]
    assert ["val/x/b", "val/x/c", "val/x/a"] == keys
    assert [] == select_frames(make_table([]), worst=2, typical=2)


def test_panels_of_the_chosen_frames_are_drawn(tmp_path: Path) -> None:
    """Each chosen frame is asked for by its key and becomes one file."""
    asked = []

    def scene_of(key: str) -> FramePanel:
        asked.append(key)
        return make_scene()

    shown = select_frames(make_table([0.1, 0.5, 0.6]), worst=1, typical=1)
    draw_panels(tmp_path / "panels", shown, scene_of, name="ce-0", protocol="val3")
    assert ["val/x/a", "val/x/b"] == asked
    names = sorted(path.name for path in (tmp_path / "panels").iterdir())
    assert ["typical_01_b.png", "worst_01_a.png"] == names
