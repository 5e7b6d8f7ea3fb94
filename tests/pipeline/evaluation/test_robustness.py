from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.evaluation.corruptions.registry import SEVERITIES
from pipeline.evaluation.robustness import ALL_CORRUPTIONS, build_robustness_table, plot_robustness


def make_confusion(correct: int) -> np.ndarray:
    """Two classes of 100 pixels, `correct` of them correct: IoU correct / (200 - correct)."""
    counts = np.zeros((19, 19), dtype=np.int64)
    counts[:2, :2] = [[correct, 100 - correct], [100 - correct, correct]]
    return counts


CORRUPTED = {
    (name, severity): make_confusion(100 - step * severity)
    for name, step in (("fog", 10), ("jpeg", 2))
    for severity in SEVERITIES
}


def test_table_by_hand() -> None:
    """The table has mIoU of fog and JPEG, their means, and both relative to the clean mIoU."""
    table = build_robustness_table(make_confusion(80), CORRUPTED).set_index("corruption")
    assert ["fog", "jpeg", ALL_CORRUPTIONS] == table.index.tolist()
    assert ["weather", "digital", ALL_CORRUPTIONS] == table["family"].tolist()
    fog = [(100 - 10 * s) / (100 + 10 * s) for s in SEVERITIES]
    jpeg = [(100 - 2 * s) / (100 + 2 * s) for s in SEVERITIES]
    columns = [f"severity_{s}" for s in SEVERITIES]
    assert pytest.approx(fog) == table.loc["fog", columns].tolist()
    assert pytest.approx((fog[4] + jpeg[4]) / 2) == table.loc[ALL_CORRUPTIONS, "severity_5"]
    clean = 80 / 120
    assert pytest.approx(np.mean(fog) / clean) == table.loc["fog", "relative"]
    assert pytest.approx(np.mean(fog + jpeg) / clean) == table.loc[ALL_CORRUPTIONS, "relative"]


def test_clean_miou_of_zero() -> None:
    """If the clean mIoU is 0, relative values are undefined, not infinite."""
    assert build_robustness_table(make_confusion(0), CORRUPTED)["relative"].isna().all()


def test_plot_is_reproducible(tmp_path: Path) -> None:
    """The plot of two families is a PNG of fixed size; drawing it again gives the same bytes."""
    table = build_robustness_table(make_confusion(80), CORRUPTED)
    for name in ("one.png", "two.png"):
        plot_robustness(table, 0.67, name="ce-0", protocol="val2", path=tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    with Image.open(tmp_path / "one.png") as picture:
        assert (770, 506) == picture.size
