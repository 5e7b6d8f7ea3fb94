import itertools

import numpy as np

from pipeline.colors import LOSS_COLORS
from pipeline.params.ablation import LOSS_NAMES

MIN_CONTRAST = 2.0
"""To white; WCAG asks for 3 of graphics, which Okabe and Ito's orange and sky blue do not reach."""

DEFICIENCIES = {
    "protanopia": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "deuteranopia": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "tritanopia": (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ),
}
"""Linear RGB as each deficiency perceives it: Machado et al. 2009, severity 1."""


def linear_rgb(color: str) -> np.ndarray:
    """(3,) linear RGB in 0..1 of an sRGB color in hexadecimal."""
    channels = np.array([int(color[start : start + 2], 16) for start in (1, 3, 5)]) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def cielab(rgb: np.ndarray) -> np.ndarray:
    """(3,) CIELAB under D65 of (3,) linear RGB."""
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    x, y, z = np.cbrt(to_xyz @ rgb.clip(0, 1) / np.array([0.9505, 1, 1.089]))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_every_loss_has_a_color_of_its_own() -> None:
    """The table holds the losses of params.yaml, and no color twice."""
    assert set(LOSS_NAMES) == set(LOSS_COLORS)
    assert len(LOSS_COLORS) == len({color.upper() for color in LOSS_COLORS.values()})


def test_colors_are_readable_on_white() -> None:
    """The contrast of each color to white, by WCAG's formula, is at least MIN_CONTRAST."""
    for loss, color in LOSS_COLORS.items():
        luminance = float(linear_rgb(color) @ [0.2126, 0.7152, 0.0722])
        assert MIN_CONTRAST <= 1.05 / (luminance + 0.05), loss


def test_colors_differ_for_color_blind_readers() -> None:
    """Any two are at least 15 apart in CIELAB, with normal vision and with each deficiency."""
    for name, matrix in {"normal": np.eye(3), **DEFICIENCIES}.items():
        perceived = {
            loss: cielab(np.array(matrix) @ linear_rgb(LOSS_COLORS[loss])) for loss in LOSS_COLORS
        }
        for first, second in itertools.combinations(perceived, 2):
            distance = float(np.linalg.norm(perceived[first] - perceived[second]))
            assert distance >= 15, (name, first, second, distance)
