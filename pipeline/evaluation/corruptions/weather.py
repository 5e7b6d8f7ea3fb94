"""Weather, and what it leaves on the lens: fog, frost, snow, spatter, and glaring light.

After arXiv:1903.12261, with strengths and textures of our own: nothing needs a photograph of ice.
Each function takes and returns a picture (h, w, 3) float32, 0..1, severity 1..5, and a generator;
one generator draws the same weather, only more of it, at every severity.
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

_BRIGHTNESS = (0.08, 0.16, 0.24, 0.34, 0.46)
_FOG = (0.25, 0.40, 0.55, 0.70, 0.85)  # share of the light that the thickest fog gives
_FROST = (0.24, 0.34, 0.45, 0.57, 0.70)  # share of the pane that ice reaches
_SNOW = (0.003, 0.007, 0.013, 0.022, 0.035)  # share of the places that hold a flake
_VEIL = (0.05, 0.10, 0.16, 0.23, 0.32)  # of falling snow too far to be seen as flakes
_SPATTER = (0.04, 0.08, 0.12, 0.21, 0.30)  # share of the lens that is covered
_MIN_MUD_SEVERITY = 4
_MUD = (0.21, 0.16, 0.11)
_WATER = (0.72, 0.78, 0.82)
_ICE = (0.80, 0.87, 0.94)
_WHITE = (0.91, 0.92, 0.93)


def brightness(image: Floats, severity: int, random: Generator) -> Floats:
    """More light: every pixel's largest channel rises, its hue and saturation stay."""
    largest = image.max(axis=2, keepdims=True)
    raised = np.minimum(largest + np.float32(_BRIGHTNESS[severity - 1]), 1)
    lighter = image * raised / np.maximum(largest, 1e-6)
    return np.asarray(np.where(largest > 0, lighter, raised), dtype=np.float32)


def fog(image: Floats, severity: int, random: Generator) -> Floats:
    """White drifting fog, thinner and thicker from place to place."""
    shape = (image.shape[0], image.shape[1])
    drift = generate_fractal_noise(shape, random, cell=0.5 * shape[0], roughness=0.55)
    thickness = np.float32(_FOG[severity - 1]) * (np.float32(0.6) + np.float32(0.4) * drift)
    return _blend_color(image, thickness, _WHITE)


def frost(image: Floats, severity: int, random: Generator) -> Floats:
    """Ice on the pane: feathers that grow from the edges inwards."""
    shape = (image.shape[0], image.shape[1])
    feathers = np.zeros(shape, dtype=np.float32)
    for cell, part in ((60, 0.55), (22, 0.3), (8, 0.15)):
        noise = generate_value_noise(shape, random, max(scale_length(cell, shape[0]), 1))
        feathers += np.float32(part) * (1 - np.minimum(6 * np.abs(noise), 1))  # ridges: thin, long
    drift = generate_fractal_noise(shape, random, cell=0.3 * shape[0], roughness=0.6)
    rows, columns = (np.abs(np.linspace(-1, 1, side, dtype=np.float32)) for side in shape)
    inwards = np.maximum(rows[:, None], columns)
    growth = 0.55 * drift + 0.3 * inwards**2 + 0.15 * feathers
    edge = float(np.quantile(growth, 1 - _FROST[severity - 1]))
    ice = smoothstep(growth, edge - 0.05, edge + 0.15)
    return _blend_color(image, ice * (np.float32(0.45) + np.float32(0.5) * feathers), _ICE)


def snow(image: Floats, severity: int, random: Generator) -> Floats:
    """Falling flakes, near and far, drawn out by their fall, before a white veil."""
    shape = (image.shape[0], image.shape[1])
    angle = np.pi / 2 + random.uniform(-0.5, 0.5)
    flakes = np.zeros(shape, dtype=np.float32)
    for cell in (3.0, 6.0, 11.0):  # far to near
        size = max(scale_length(cell, shape[0]), 1.0)
        places = [int(np.ceil(side / size)) for side in shape]
        fallen = random.random(places, dtype=np.float32) < _SNOW[severity - 1]
        near = np.clip(upsample(fallen.astype(np.float32), shape), 0, 1)
        flakes = np.maximum(flakes, convolve(near, line_kernel(1.5 * size, angle)))
    veiled = _blend_color(image, np.full(shape, _VEIL[severity - 1], np.float32), _WHITE)
    return _blend_color(veiled, np.clip(1.6 * flakes, 0, 1), _WHITE)


def spatter(image: Floats, severity: int, random: Generator) -> Floats:
    """Drops on the lens: of rain up to severity 3, of mud above."""
    shape = (image.shape[0], image.shape[1])
    fine = generate_value_noise(shape, random, max(scale_length(6, shape[0]), 1))
    bumps = convolve(
        fine, gaussian_kernel(scale_length(9, shape[0]))
    )  # a bell, so that drops come out round
    edge = float(np.quantile(bumps, 1 - _SPATTER[severity - 1]))
    drops = smoothstep((bumps - edge) / max(bumps.std(), 1e-6), 0, 0.35)
    if severity >= _MIN_MUD_SEVERITY:
        return _blend_color(image, np.float32(0.97) * drops, _MUD)
    # A drop is lighter in its middle, where it shows more of the sky.
    return _blend_color(image, np.float32(0.4) * drops + 0.25 * smoothstep(drops, 0.7, 1), _WATER)


def _blend_color(image: Floats, opacity: Floats, color: tuple[float, float, float]) -> Floats:
    """Lay a colour over a picture; `opacity` (h, w) is 0 where nothing of it is, 1 where all is."""
    share = opacity[..., None]
    return image * (1 - share) + np.array(color, dtype=np.float32) * share
