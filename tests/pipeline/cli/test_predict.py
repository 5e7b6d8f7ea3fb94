import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import typer

from pipeline.cli.app import main
from pipeline.cli.predict import parse_classes, parse_rate, parse_time
from segformer.cityscapes import CLASS_NAMES
from tests.pipeline.conftest import save_png
from tests.pipeline.video.films import make_images, read_film, write_film


@pytest.mark.parametrize(
    ("text", "seconds"), [("12.5", Fraction(25, 2)), ("1:30", 90), ("1:02:03.25", 3723.25)]
)
def test_times(text: str, seconds: Fraction) -> None:
    """A time is seconds, m:ss or h:mm:ss."""
    assert seconds == parse_time(text)


@pytest.mark.parametrize("text", ["", "1:", "x", "1:2:3:4", "1/0"])
def test_times_that_are_none(text: str) -> None:
    """Anything else is refused."""
    with pytest.raises(typer.BadParameter, match="is not a time"):
        parse_time(text)


def test_rates() -> None:
    """A rate is a number or a fraction above 0."""
    assert Fraction(30000, 1001) == parse_rate("30000/1001")
    with pytest.raises(typer.BadParameter, match="is not a frame rate"):
        parse_rate("0")


def test_class_names() -> None:
    """Names are separated by commas; an unknown one is named, with the choices."""
    assert (6, 13) == parse_classes("car, Traffic Light", CLASS_NAMES)
    with pytest.raises(ValueError, match=r"roads not among .*; choose from road, sidewalk"):
        parse_classes("roads,car", CLASS_NAMES)
    with pytest.raises(ValueError, match="no class; choose from"):
        parse_classes(" ,", CLASS_NAMES)


def test_pictures_and_films_in_one_call(
    tmp_path: Path,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What can be read is written; the rest is listed at the end, with exit code 1."""
    save_png(tmp_path / "street.png", make_images(1)[0])
    write_film(tmp_path / "drive.mp4", make_images(10), audio="aac")
    (tmp_path / "broken.mp4").write_bytes(b"no film")
    names = ["street.png", "broken.mp4", "drive.mp4"]
    options = ["--start", "0.1", "--end", "0:0.3", "--codec", "vp9", "--labels"]
    out = tmp_path / "out"
    arguments = [*(tmp_path / name for name in names), "--out", out, "--model", model_folder]
    monkeypatch.setattr(sys, "argv", ["segformer", "predict", *map(str, arguments), *options])
    with pytest.raises(SystemExit) as stop:
        main()
    assert 1 == stop.value.code
    captured = capsys.readouterr()
    assert "error: predict: 1 problem with the pictures and films\n" in captured.err
    assert f"{tmp_path / 'broken.mp4'}: not a film that FFmpeg can open" in captured.err
    assert "segmented 1 of 1 pictures" in captured.out
    assert "of the pixels change class from one frame to the next" in captured.out
    np.testing.assert_allclose(
        [0.02, 0.06, 0.1, 0.14, 0.18], read_film(out / "overlay/drive.webm")[0]
    )
    written = {path.relative_to(out).as_posix() for path in out.rglob("*.*")}
    pictures = {"overlay/street.png", "labels/street.png"}
    assert pictures | {"overlay/drive.webm", "labels/drive.mkv"} == written
