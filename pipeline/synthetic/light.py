"""Weather and time of day: sun, sky, haze and the colors they give to surfaces."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pipeline.synthetic.camera import FloatArray


@dataclass(frozen=True)
class Light:
    """The light of a scene; colors are RGB, 1 is a white card in full light.

    `sun` is the unit vector towards the sun; `direct` and `ambient` its light and the sky's; `haze`
    the color that distance tends to and `clarity` the meters over which it does; `cloud` the share
    of the sky that is covered, 0..1; `exposure` the camera's gain; `wet` how much the ground
    mirrors after rain, 0..1.
    """

    sun: FloatArray
    direct: FloatArray
    ambient: FloatArray
    zenith: FloatArray
    haze: FloatArray
    clarity: float
    cloud: float
    exposure: float
    wet: float

    def irradiance(self, normal: FloatArray) -> FloatArray:
        """(3,) RGB: the light on a surface that faces along `normal` (a unit vector)."""
        # Written out: a library's inner product rounds as the processor at hand likes it.
        x, y, z = normal.tolist()
        to_x, to_y, to_z = self.sun.tolist()
        facing = max(0.0, x * to_x + y * to_y + z * to_z)
        return self.ambient * np.float32(0.82 + 0.18 * y) + self.direct * np.float32(facing)

    @cached_property
    def side_contrast(self) -> float:
        """Return which side of round objects is lit, and how strongly: -1 (left) to 1 (right)."""
        return math.copysign(0.4 + 0.6 * min(1.0, 2 * self.shadow), float(self.sun[0]))

    @cached_property
    def shadow(self) -> float:
        """Return how much darker level ground is in shadow, 0..1."""
        lit = self.irradiance(np.array([0, 1, 0], np.float32)).tolist()
        return 1 - float(sum(self.ambient.tolist())) / float(sum(lit))


@dataclass(frozen=True)
class _Weather:
    direct: float
    ambient: float
    warmth: float
    zenith: tuple[float, float, float]
    haze: tuple[float, float, float]
    clarity: float
    cloud: float
    height: float
    gain: float
    wet: float


# `height` is the sun's, as a share of its distance on the ground; `wet` how often it has rained.
_WEATHER = (
    _Weather(
        0.72, 0.52, 0.06, (0.34, 0.53, 0.80), (0.78, 0.84, 0.90), 520, 0.30, 0.7, 1.0, 0.0
    ),  # fair
    _Weather(
        0.62, 0.50, 0.14, (0.44, 0.58, 0.78), (0.93, 0.84, 0.72), 380, 0.45, 0.4, 1.05, 0.1
    ),  # low sun
    _Weather(
        0.12, 0.84, 0.00, (0.74, 0.77, 0.80), (0.84, 0.86, 0.87), 420, 0.95, 0.7, 1.05, 0.3
    ),  # overcast
    _Weather(
        0.35, 0.70, 0.03, (0.58, 0.68, 0.80), (0.86, 0.88, 0.89), 450, 0.70, 0.6, 1.0, 0.15
    ),  # thin cloud
    _Weather(
        0.05, 0.74, -0.03, (0.66, 0.70, 0.74), (0.74, 0.77, 0.79), 170, 1.00, 0.7, 1.2, 0.4
    ),  # dull, hazy
)


def draw_light(rng: np.random.Generator) -> Light:
    """Draw the weather, and for it the position of the sun and the exposure of the camera."""
    weather = _WEATHER[rng.choice(len(_WEATHER), p=[0.3, 0.17, 0.2, 0.23, 0.1])]
    bearing = rng.uniform(0, 2 * np.pi)
    height = weather.height * rng.uniform(0.7, 1.45)
    away = math.sqrt(1 + height * height)
    sun = np.array([math.cos(bearing), height, math.sin(bearing)]) / away
    warmth = weather.warmth + rng.uniform(-0.03, 0.03)
    tint = np.array([1 + warmth, 1, 1 - warmth], np.float32)
    cool = np.array([1 - 0.5 * warmth, 1, 1 + 0.5 * warmth], np.float32)
    return Light(
        sun=sun.astype(np.float32),
        direct=weather.direct * rng.uniform(0.85, 1.1) * tint,
        ambient=weather.ambient * rng.uniform(0.9, 1.05) * cool,
        zenith=np.array(weather.zenith, np.float32) * rng.uniform(0.92, 1.05),
        haze=np.array(weather.haze, np.float32) * rng.uniform(0.94, 1.04),
        clarity=weather.clarity * rng.uniform(0.8, 1.3),
        cloud=weather.cloud,
        exposure=weather.gain * rng.uniform(0.95, 1.24),
        wet=rng.uniform(0.35, 1.0) if rng.random() < weather.wet else 0.0,
    )
