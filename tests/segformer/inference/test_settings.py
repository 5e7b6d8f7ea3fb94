import json

import pytest

from segformer.inference.settings import InferenceSettings

SETTINGS = InferenceSettings(
    (64, 128), windows=((64, 64), (32, 32)), flip=True, scales=(0.5, 1.0), resize="bilinear"
)


def test_settings_survive_json() -> None:
    """What a model keeps as JSON is read back as the same settings."""
    stored = json.loads(json.dumps({"inference": SETTINGS.to_dict()}))
    assert SETTINGS == InferenceSettings.from_config(stored)
    assert InferenceSettings() == InferenceSettings.from_dict(InferenceSettings().to_dict())


@pytest.mark.parametrize(
    ("config", "size"),
    [({"input_size": [32, 64]}, (32, 64)), ({"size": [48, 96]}, (48, 96)), ({}, None)],
)
def test_models_without_an_entry_keep_their_size(
    config: dict[str, object], size: tuple[int, int] | None
) -> None:
    """Models from before there was `inference` predict whole images at the size they keep."""
    assert InferenceSettings(size) == InferenceSettings.from_config(config)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sise": [1, 2]}, "unknown inference settings sise; known: size, windows"),
        ({"size": [64]}, r"size: \[64\] is not a number of rows and of columns"),
        ({"size": [64, "x"]}, "size: "),
        ({"windows": [[64, 64]]}, "windows: .* is not a window and its stride"),
        ({"windows": [[64, 64], 3]}, "stride: 3 is not"),
        ({"flip": "yes"}, "flip: 'yes' is neither true nor false"),
        ({"scales": []}, r"scales: \[\] is not a list of positive factors"),
        ({"resize": "area"}, "resize: 'area' is not one of antialias, bilinear"),
    ],
)
def test_impossible_settings_are_named(values: dict[str, object], message: str) -> None:
    """A hand-edited config.json gets the key, the value and what is allowed."""
    with pytest.raises(ValueError, match=message):
        InferenceSettings.from_dict(values)


def test_the_filter_is_part_of_the_protocol() -> None:
    """Two filters are two protocols; the default one is not spelled out."""
    assert "64x128/whole/ss" == InferenceSettings((64, 128)).describe([(256, 512)])
    bilinear = InferenceSettings((64, 128), resize="bilinear")
    assert "64x128-bilinear/whole/ss" == bilinear.describe([(256, 512)])
