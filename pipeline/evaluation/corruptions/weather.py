"""Add weather to an image: fog, frost, snow, spatter, and bright light.

After arXiv:1903.12261, with other strengths, and with generated textures in place of photographs of
ice. Each function takes an image (h, w, 3) float32, 0..1, a severity 1..5 and a generator, and
returns an image. Generators of the same seed draw the same weather at every severity, only more of
it.
"""

import numpy as np
from numpy.random import Generator

from pipeline.evaluation.corruptions.kernels import (
    Floats,
    convolve,
    gaussian_kernel,
    line_kernel,
    scale_length,
)
from pipeline.evaluation.corruptions.texture import (
    generate_fractal_noise,
    generate_value_noise,
    smoothstep,
    upsample,
)

_BRIGHTNESS = (0.08, 0.16, 0.24, 0.34, 0.46)  # added to the largest channel
_FOG = (0.25, 0.40, 0.55, 0.70, 0.85)  # opacity of the thickest fog
_FROST = (0.24, 0.34, 0.45, 0.57, 0.70)  # share of the pane covered by ice
_SNOW = (0.003, 0.007, 0.013, 0.022, 0.035)  # share of the cells with a flake
_VEIL = (0.05, 0.10, 0.16, 0.23, 0.32)  # opacity of distant snow
_SPATTER = (0.04, 0.08, 0.12, 0.21, 0.30)  # covered share of the lens
_MIN_MUD_SEVERITY = 4
_MUD = (0.21, 0.16, 0.11)
_WATER = (0.72, 0.78, 0.82)
_ICE = (0.80, 0.87, 0.94)
_WHITE = (0.91, 0.92, 0.93)


def brightness(image: Floats, severity: int, _random: Generator) -> Floats:
    """Brighten: the largest channel of every pixel rises, hue and saturation stay."""
    largest = image.max(axis=2, keepdims=True)
    brighter = np.minimum(largest + np.float32(_BRIGHTNESS[severity - 1]), 1)
    result = image * brighter / np.maximum(largest, 1e-6)
    return np.asarray(np.where(largest > 0, result, brighter), dtype=np.float32)


def fog(image: Floats, severity: int, random: Generator) -> Floats:
    """White fog of varying thickness."""
    shape = (image.shape[0], image.shape[1])
    drift = generate_fractal_noise(shape, random, cell=0.5 * shape[0], roughness=0.55)
    thickness = np.float32(_FOG[severity - 1]) * (np.float32(0.6) + np.float32(0.4) * drift)
    return _blend_color(image, thickness, _WHITE)


def frost(image: Floats, severity: int, random: Generator) -> Floats:
    """Ice on the pane, with feathers that grow inward from the edges."""
    shape = (image.shape[0], image.shape[1])
    feathers = np.zeros(shape, dtype=np.float32)
    for cell, weight in ((60, 0.55), (22, 0.3), (8, 0.15)):
        noise = generate_value_noise(shape, random, max(scale_length(cell, shape[0]), 1))
        feathers += np.float32(weight) * (1 - np.minimum(6 * np.abs(noise), 1))  # thin, long ridges
    drift = generate_fractal_noise(shape, random, cell=0.3 * shape[0], roughness=0.6)
    rows, columns = (np.abs(np.linspace(-1, 1, side, dtype=np.float32)) for side in shape)
    edge_distance = np.maximum(rows[:, None], columns)  # 0 in the center, 1 at the edges
    growth = 0.55 * drift + 0.3 * edge_distance**2 + 0.15 * feathers
    threshold = float(np.quantile(growth, 1 - _FROST[severity - 1]))
    ice = smoothstep(growth, threshold - 0.05, threshold + 0.15)
    return _blend_color(image, ice * (np.float32(0.45) + np.float32(0.5) * feathers), _ICE)


def snow(image: Floats, severity: int, random: Generator) -> Floats:
    """Falling flakes, near and far, with motion blur, in front of a white veil."""
    shape = (image.shape[0], image.shape[1])
    angle = np.pi / 2 + random.uniform(-0.5, 0.5)
    flakes = np.zeros(shape, dtype=np.float32)
    for cell in (3.0, 6.0, 11.0):  # far to near
        size = max(scale_length(cell, shape[0]), 1.0)
        grid_shape = [int(np.ceil(side / size)) for side in shape]
        has_flake = random.random(grid_shape, dtype=np.float32) < _SNOW[severity - 1]
        layer = np.clip(upsample(has_flake.astype(np.float32), shape), 0, 1)
        flakes = np.maximum(flakes, convolve(layer, line_kernel(1.5 * size, angle)))
    veiled = _blend_color(image, np.full(shape, _VEIL[severity - 1], np.float32), _WHITE)
    return _blend_color(veiled, np.clip(1.6 * flakes, 0, 1), _WHITE)


def spatter(image: Floats, severity: int, random: Generator) -> Floats:
    """Drops on the lens: rain up to severity 3, mud above."""
    shape = (image.shape[0], image.shape[1])
    noise = generate_value_noise(shape, random, max(scale_length(6, shape[0]), 1))
    # A Gaussian, so that drops are round.
    bumps = convolve(noise, gaussian_kernel(scale_length(9, shape[0])))
    threshold = float(np.quantile(bumps, 1 - _SPATTER[severity - 1]))
    drops = smoothstep((bumps - threshold) / max(bumps.std(), 1e-6), 0, 0.35)
    if severity >= _MIN_MUD_SEVERITY:
        return _blend_color(image, np.float32(0.97) * drops, _MUD)
    # A drop is brighter in its center, where it shows more of the sky.
    return _blend_color(image, np.float32(0.4) * drops + 0.25 * smoothstep(drops, 0.7, 1), _WATER)


def _blend_color(image: Floats, opacity: Floats, color: tuple[float, float, float]) -> Floats:
    """Blend a color over an image with (h, w) opacity, 0..1."""
    alpha = opacity[..., None]
    return image * (1 - alpha) + np.array(color, dtype=np.float32) * alpha
