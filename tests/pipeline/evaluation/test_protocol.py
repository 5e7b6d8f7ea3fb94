import pandas as pd
import pytest

from pipeline.evaluation.protocol import format_protocol
from segformer.inference.settings import InferenceSettings

FRAMES = pd.DataFrame({"split": ["val"] * 3, "rows": [40] * 3, "columns": [72] * 3})
FULL = FRAMES.assign(rows=1024, columns=2048)
PAPER_SETTINGS = InferenceSettings(
    None, ((1024, 1024), (768, 768)), flip=True, scales=(0.5, 1.0, 1.75)
)


def test_protocol_names_frames_and_settings() -> None:
    """The protocol has split and number of frames, rule, size, mode, scales and weights."""
    assert "val3/official/32x64/whole/ss/last" == format_protocol(
        FRAMES, "official", InferenceSettings((32, 64)), "last"
    )


def test_protocol_names_the_size_of_the_frames() -> None:
    """Without a size in the settings the protocol has the sizes of the frames."""
    assert "val3/city-ulm/40x72/whole/ss/last" == format_protocol(
        FRAMES, "city-ulm", InferenceSettings(None), "last"
    )
    mixed = FRAMES.assign(rows=[40, 36, 40])
    assert "val3/city-ulm/36x72+40x72/whole/ss/last" == format_protocol(
        mixed, "city-ulm", InferenceSettings(None), "last"
    )


def test_protocol_of_the_paper() -> None:
    """The protocol has window and stride, every scale, and mirroring."""
    expected = "val3/official/1024x2048/slide1024x1024+768x768/ms0.5,1.0,1.75+flip/last"
    assert expected == format_protocol(FULL, "official", PAPER_SETTINGS, "last")


def test_protocol_names_averaged_weights() -> None:
    """Scores of the moving average and of the last step have different protocols."""
    assert format_protocol(FRAMES, "official", InferenceSettings(None), "ema").endswith(
        "40x72/whole/ss/ema"
    )


@pytest.mark.parametrize(
    ("settings", "mode"),
    [
        (InferenceSettings(None, ((40, 72), (20, 20))), "whole"),
        (InferenceSettings(None, ((1024, 1024), (768, 768)), scales=(0.9, 2.0)), "whole"),
        (InferenceSettings(None, ((40, 71), (20, 20))), "slide40x71+20x20"),
        (InferenceSettings((80, 100), ((40, 100), (20, 20))), "slide40x100+20x20"),
        (InferenceSettings(None, ((40, 72), (20, 20)), scales=(1.0, 2.0)), "slide40x72+20x20"),
    ],
)
def test_window_of_full_size_is_whole_mode(settings: InferenceSettings, mode: str) -> None:
    """If no photograph at any scale is larger than the window, the mode is `whole`."""
    assert mode == settings.describe([(40, 72)]).split("/")[1]


@pytest.mark.parametrize(
    ("settings", "image_sizes", "message"),
    [
        (InferenceSettings((32, 64), scales=(1.0, 0.8)), [], "0.8 of 32x64 is 26x51"),
        (InferenceSettings(None, scales=(0.001,)), [(1024, 2048)], "0.001 of 1024x2048 is 1x2"),
        (InferenceSettings(None), [(40, 72), (28, 72)], "1.0 of 28x72 is 28x72"),
    ],
)
def test_too_small_inputs_are_refused(
    settings: InferenceSettings, image_sizes: list[tuple[int, int]], message: str
) -> None:
    """Scales that give fewer than 29 rows or columns, of `size` or a photograph, are refused."""
    with pytest.raises(ValueError, match=f"scales: {message}, but the network needs 29"):
        settings.check_sizes(image_sizes)


def test_smallest_input_is_accepted() -> None:
    """The smallest input size of the network is accepted."""
    InferenceSettings(None, scales=(1.0, 0.5)).check_sizes([(58, 58)])


@pytest.mark.parametrize(
    "other",
    [
        InferenceSettings((1024, 2048), PAPER_SETTINGS.windows, flip=True, scales=(0.5, 1.0)),
        InferenceSettings(None, None, flip=True, scales=PAPER_SETTINGS.scales),
        InferenceSettings(
            None, ((1024, 1024), (768, 767)), flip=True, scales=PAPER_SETTINGS.scales
        ),
        InferenceSettings(None, PAPER_SETTINGS.windows, flip=False, scales=PAPER_SETTINGS.scales),
        InferenceSettings(None, PAPER_SETTINGS.windows, flip=True, scales=(1.0,)),
        InferenceSettings(None, PAPER_SETTINGS.windows, flip=True, scales=(0.5, 1.0, 1.7500001)),
    ],
)
def test_different_settings_have_different_protocols(other: InferenceSettings) -> None:
    """A change of any setting changes the protocol."""
    one, two = (
        format_protocol(FULL, "official", settings, "last") for settings in (PAPER_SETTINGS, other)
    )
    assert one != two


def test_input_sizes_are_scaled() -> None:
    """The scales apply to `size` if it is set, otherwise to the size of the photograph."""
    assert [(512, 1024), (1024, 2048), (1792, 3584)] == PAPER_SETTINGS.input_sizes((1024, 2048))
    assert [(16, 32)] == InferenceSettings((32, 64), scales=(0.5,)).input_sizes((1024, 2048))
