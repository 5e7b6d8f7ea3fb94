from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.evaluation.corruptions.registry import SEVERITIES
from pipeline.evaluation.robustness import ALL_CORRUPTIONS, build_robustness_table, plot_robustness


def confusion(right: int) -> np.ndarray:
    """Two classes of 100 pixels, of which `right` each are right: IoU right / (200 - right)."""
    counts = np.zeros((19, 19), dtype=np.int64)
    counts[:2, :2] = [[right, 100 - right], [100 - right, right]]
    return counts


CORRUPTED = {
    (name, severity): confusion(100 - step * severity)
    for name, step in (("fog", 10), ("jpeg", 2))
    for severity in SEVERITIES
}


def test_table_relates_to_the_clean_score_by_hand() -> None:
    """Fog and JPEG at every severity, their means, and their shares of the clean mIoU."""
    table = build_robustness_table(confusion(80), CORRUPTED).set_index("corruption")
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


def test_nothing_relates_to_a_score_of_nought() -> None:
    """Where the clean mIoU is 0, what is kept of it is undefined, not infinite."""
    assert build_robustness_table(confusion(0), CORRUPTED)["relative"].isna().all()


def test_chart_is_the_same_file_each_time(tmp_path: Path) -> None:
    """A PNG of the two families, drawn again with the same bytes."""
    table = build_robustness_table(confusion(80), CORRUPTED)
    for name in ("one.png", "two.png"):
        plot_robustness(table, 0.67, name="ce-0", protocol="val2", path=tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    with Image.open(tmp_path / "one.png") as picture:
        assert (770, 506) == picture.size
