import pandas as pd
import pytest

from pipeline.showing import Showing, protocol_id

FRAMES = pd.DataFrame({"split": ["val"] * 3, "rows": [40] * 3, "columns": [72] * 3})
PAPER = Showing(None, ((1024, 1024), (768, 768)), flip=True, scales=(0.5, 1.0, 1.75))


def test_what_is_seen_is_in_the_protocol() -> None:
    """Split and number of frames, rule, size, mode, scales, and which weights."""
    assert "val3/official/32x64/whole/ss/last" == protocol_id(FRAMES, "official", Showing((32, 64)))


def test_own_size_is_in_the_protocol() -> None:
    """With no size given the network sees the frame's own, and the protocol says which that is."""
    assert "val3/city-ulm/40x72/whole/ss/last" == protocol_id(FRAMES, "city-ulm", Showing(None))
    mixed = FRAMES.assign(rows=[40, 36, 40])
    assert "val3/city-ulm/36x72+40x72/whole/ss/last" == protocol_id(
        mixed, "city-ulm", Showing(None)
    )


def test_the_papers_way_is_in_the_protocol() -> None:
    """Windows and how far apart they are, every scale, and the mirror."""
    assert "val3/official/40x72/slide1024x1024+768x768/ms0.5,1.0,1.75+flip/last" == protocol_id(
        FRAMES, "official", PAPER
    )


@pytest.mark.parametrize(
    "other",
    [
        Showing((40, 72), PAPER.windows, flip=True, scales=(0.5, 1.0)),
        Showing(None, None, flip=True, scales=PAPER.scales),
        Showing(None, ((1024, 1024), (768, 767)), flip=True, scales=PAPER.scales),
        Showing(None, PAPER.windows, flip=False, scales=PAPER.scales),
        Showing(None, PAPER.windows, flip=True, scales=(1.0,)),
        Showing(None, PAPER.windows, flip=True, scales=(0.5, 1.0, 1.7500001)),
    ],
)
def test_no_two_ways_have_one_protocol(other: Showing) -> None:
    """Numbers that were measured in unlike ways can be told apart by their protocol alone."""
    one, two = (protocol_id(FRAMES, "official", showing) for showing in (PAPER, other))
    assert one != two


def test_sizes_are_those_of_the_network_by_the_scales() -> None:
    """Of `size` if there is one, else of the photograph."""
    assert [(512, 1024), (1024, 2048), (1792, 3584)] == PAPER.sizes((1024, 2048))
    assert [(16, 32)] == Showing((32, 64), scales=(0.5,)).sizes((1024, 2048))
