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


def make_panel() -> FramePanel:
    """Four pixels: correct, wrong, void predicted as road, and wrong."""
    truth = np.array([[0, 1], [IGNORE, 2]], dtype=np.uint8)
    predicted = np.array([[0, 0], [0, 0]], dtype=np.uint8)
    photograph = np.full((2, 2, 3), 200, dtype=np.uint8)
    return FramePanel("val/avalon/avalon_000000_000019", photograph, truth, predicted)


def test_error_map_colors() -> None:
    """Correct pixels are pale gray, wrong ones red, void ones dark."""
    picture = draw_error_map(make_panel())
    assert [230, 0, 60] == picture[0, 1].tolist() == picture[1, 1].tolist()
    assert [25, 25, 25] == picture[1, 0].tolist()
    assert [230, 230, 230] == picture[0, 0].tolist()


def test_error_share_counts_labeled_pixels_only() -> None:
    """Two of three labeled pixels are wrong; without labeled pixels the share is nan."""
    assert compute_error_share(make_panel()) == pytest.approx(2 / 3)
    void = np.full((2, 2), IGNORE, dtype=np.uint8)
    assert np.isnan(compute_error_share(FramePanel("k", np.zeros((2, 2, 3), np.uint8), void, void)))


def test_panel_is_reproducible(tmp_path: Path) -> None:
    """A panel is a PNG of fixed width; drawing it again gives the same bytes."""
    for name in ("one.png.part", "two.png.part"):
        draw_panel(make_panel(), "title", "subtitle", tmp_path / name)
    assert (tmp_path / "one.png.part").read_bytes() == (tmp_path / "two.png.part").read_bytes()
    with Image.open(tmp_path / "one.png.part") as picture:
        assert "PNG" == picture.format
        assert 1650 == picture.size[0]


def make_table(miou: list[float]) -> pd.DataFrame:
    """Frames a, b, c, ... with these scores."""
    return pd.DataFrame({"frame": [f"val/x/{chr(97 + i)}" for i in range(len(miou))], "miou": miou})


def test_worst_and_typical_frames_are_selected() -> None:
    """The two lowest, then the two nearest to the median 0.5, but no frame without a score."""
    selected = select_frames(make_table([0.9, 0.1, 0.5, np.nan, 0.2, 0.52]), worst=2, typical=2)
    assert ["worst_01_b.png", "worst_02_e.png", "typical_01_c.png", "typical_02_f.png"] == [
        frame.file for frame in selected
    ]
    assert "rank 2 by lowest mIoU of 5 frames" == selected[1].reason
    assert 0.2 == selected[1].miou


def test_no_frame_is_both_worst_and_typical() -> None:
    """If there are fewer frames than requested, each is selected once."""
    keys = [frame.key for frame in select_frames(make_table([0.3, 0.1, 0.2]), worst=2, typical=10)]
    assert ["val/x/b", "val/x/c", "val/x/a"] == keys
    assert [] == select_frames(make_table([]), worst=2, typical=2)


def test_selected_frames_are_drawn(tmp_path: Path) -> None:
    """Each selected frame is loaded by its key and drawn into one file."""
    loaded = []

    def load_panel(key: str) -> FramePanel:
        loaded.append(key)
        return make_panel()

    selected = select_frames(make_table([0.1, 0.5, 0.6]), worst=1, typical=1)
    draw_panels(tmp_path / "panels", selected, load_panel, name="ce-0", protocol="val3")
    assert ["val/x/a", "val/x/b"] == loaded
    names = sorted(path.name for path in (tmp_path / "panels").iterdir())
    assert ["typical_01_b.png", "worst_01_a.png"] == names
