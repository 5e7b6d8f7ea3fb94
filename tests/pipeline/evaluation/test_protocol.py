import pandas as pd
import pytest

from pipeline.evaluation.protocol import format_protocol
from segformer.inference.settings import InferenceSettings

FRAMES = pd.DataFrame({"split": ["val"] * 3, "rows": [40] * 3, "columns": [72] * 3})
FULL = FRAMES.assign(rows=1024, columns=2048)
PAPER = InferenceSettings(None, ((1024, 1024), (768, 768)), flip=True, scales=(0.5, 1.0, 1.75))


def test_what_is_seen_is_in_the_protocol() -> None:
    """Split and number of frames, rule, size, mode, scales, and which weights."""
    assert "val3/official/32x64/whole/ss/last" == format_protocol(
        FRAMES, "official", InferenceSettings((32, 64)), "last"
    )


def test_own_size_is_in_the_protocol() -> None:
    """With no size given the network sees the frame's own, and the protocol says which that is."""
    assert "val3/city-ulm/40x72/whole/ss/last" == format_protocol(
        FRAMES, "city-ulm", InferenceSettings(None), "last"
    )
    mixed = FRAMES.assign(rows=[40, 36, 40])
    assert "val3/city-ulm/36x72+40x72/whole/ss/last" == format_protocol(
        mixed, "city-ulm", InferenceSettings(None), "last"
    )


def test_the_papers_way_is_in_the_protocol() -> None:
    """Windows and how far apart they are, every scale, and the mirror."""
    expected = "val3/official/1024x2048/slide1024x1024+768x768/ms0.5,1.0,1.75+flip/last"
    assert expected == format_protocol(FULL, "official", PAPER, "last")


def test_averaged_weights_are_in_the_protocol() -> None:
    """Numbers of the moving average are told from those of the last step."""
    assert format_protocol(FRAMES, "official", InferenceSettings(None), "ema").endswith(
        "40x72/whole/ss/ema"
    )


@pytest.mark.parametrize(
    ("shown", "mode"),
    [
        (InferenceSettings(None, ((40, 72), (20, 20))), "whole"),
        (InferenceSettings(None, ((1024, 1024), (768, 768)), scales=(0.9, 2.0)), "whole"),
        (InferenceSettings(None, ((40, 71), (20, 20))), "slide40x71+20x20"),
        (InferenceSettings((80, 100), ((40, 100), (20, 20))), "slide40x100+20x20"),
        (InferenceSettings(None, ((40, 72), (20, 20)), scales=(1.0, 2.0)), "slide40x72+20x20"),
    ],
)
def test_a_window_that_holds_all_is_no_window(shown: InferenceSettings, mode: str) -> None:
    """Where no photograph at any scale is larger than the window, all is seen whole."""
    assert mode == shown.describe([(40, 72)]).split("/")[1]


@pytest.mark.parametrize(
    ("shown", "own", "told"),
    [
        (InferenceSettings((32, 64), scales=(1.0, 0.8)), [], "0.8 of 32x64 is 26x51"),
        (InferenceSettings(None, scales=(0.001,)), [(1024, 2048)], "0.001 of 1024x2048 is 1x2"),
        (InferenceSettings(None), [(40, 72), (28, 72)], "1.0 of 28x72 is 28x72"),
    ],
)
def test_what_the_network_cannot_see_is_refused(
    shown: InferenceSettings, own: list[tuple[int, int]], told: str
) -> None:
    """A scale that leaves fewer than 29 rows or columns, of `size` or of any photograph."""
    with pytest.raises(ValueError, match=f"scales: {told}, but the network needs 29"):
        shown.check_sizes(own)


def test_what_the_network_can_see_is_not_refused() -> None:
    """The least size that the network takes will do."""
    InferenceSettings(None, scales=(1.0, 0.5)).check_sizes([(58, 58)])


@pytest.mark.parametrize(
    "other",
    [
        InferenceSettings((1024, 2048), PAPER.windows, flip=True, scales=(0.5, 1.0)),
        InferenceSettings(None, None, flip=True, scales=PAPER.scales),
        InferenceSettings(None, ((1024, 1024), (768, 767)), flip=True, scales=PAPER.scales),
        InferenceSettings(None, PAPER.windows, flip=False, scales=PAPER.scales),
        InferenceSettings(None, PAPER.windows, flip=True, scales=(1.0,)),
        InferenceSettings(None, PAPER.windows, flip=True, scales=(0.5, 1.0, 1.7500001)),
    ],
)
def test_no_two_ways_have_one_protocol(other: InferenceSettings) -> None:
    """Numbers that were measured in unlike ways can be told apart by their protocol alone."""
    one, two = (format_protocol(FULL, "official", showing, "last") for showing in (PAPER, other))
    assert one != two


def test_sizes_are_those_of_the_network_by_the_scales() -> None:
    """Of `size` if there is one, else of the photograph."""
    assert [(512, 1024), (1024, 2048), (1792, 3584)] == PAPER.input_sizes((1024, 2048))
    assert [(16, 32)] == InferenceSettings((32, 64), scales=(0.5,)).input_sizes((1024, 2048))
