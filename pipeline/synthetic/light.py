"""Weather and time of day: sun, sky, haze and the colours they give to surfaces."""

from dataclasses import dataclass

import numpy as np

from pipeline.synthetic.camera import FloatArray


@dataclass(frozen=True)
class Light:
    """All that decides how bright a surface is; colours are RGB, 1 is a white card in full light.

    `sun` is the unit vector towards the sun; `direct` and `ambient` its light and the sky's; `haze`
    the colour that distance tends to and `clarity` the metres over which it does; `cloud` the share
    of the sky that is covered, 0..1; `exposure` the camera's gain.
    """

    sun: FloatArray
    direct: FloatArray
    ambient: FloatArray
    zenith: FloatArray
    haze: FloatArray
    clarity: float
    cloud: float
    exposure: float

    def on(self, normal: FloatArray) -> FloatArray:
        """(3,) RGB: the light on a surface that faces along `normal` (a unit vector)."""
        upward = 0.82 + 0.18 * float(normal[1])
        return self.ambient * upward + self.direct * max(0.0, float(normal @ self.sun))

    @property
    def shadow(self) -> float:
        """How much darker level ground is where the sun does not reach, 0..1."""
        lit = float(self.on(np.array([0, 1, 0], np.float32)).mean())
        return 1 - float(self.ambient.mean()) / lit


@dataclass(frozen=True)
class _Weather:
    direct: float
    ambient: float
    warmth: float
    zenith: tuple[float, float, float]
    haze: tuple[float, float, float]
    clarity: float
    cloud: float


_WEATHER = (
    _Weather(0.72, 0.52, 0.06, (0.34, 0.53, 0.80), (0.78, 0.84, 0.90), 520, 0.30),  # fair
    _Weather(0.62, 0.50, 0.14, (0.44, 0.58, 0.78), (0.93, 0.84, 0.72), 380, 0.45),  # low sun
    _Weather(0.12, 0.84, 0.00, (0.74, 0.77, 0.80), (0.84, 0.86, 0.87), 420, 0.95),  # overcast
    _Weather(0.35, 0.70, 0.03, (0.58, 0.68, 0.80), (0.86, 0.88, 0.89), 450, 0.70),  # thin cloud
    _Weather(0.05, 0.74, -0.03, (0.66, 0.70, 0.74), (0.74, 0.77, 0.79), 170, 1.00),  # dull, hazy
)


def draw_light(rng: np.random.Generator) -> Light:
    """Choose a weather, and within it the sun's place and the camera's exposure."""
    weather = _WEATHER[rng.choice(len(_WEATHER), p=[0.3, 0.17, 0.2, 0.23, 0.1])]
    bearing = rng.uniform(0, 2 * np.pi)
    height = rng.uniform(0.45, 1.0)
    sun = np.array([np.cos(bearing), height, np.sin(bearing)], np.float32)
    warmth = weather.warmth + rng.uniform(-0.03, 0.03)
    tint = np.array([1 + warmth, 1, 1 - warmth], np.float32)
    cool = np.array([1 - 0.5 * warmth, 1, 1 + 0.5 * warmth], np.float32)
    return Light(
        sun=sun / np.linalg.norm(sun),
        direct=weather.direct * rng.uniform(0.85, 1.1) * tint,
        ambient=weather.ambient * rng.uniform(0.9, 1.05) * cool,
        zenith=np.array(weather.zenith, np.float32) * rng.uniform(0.92, 1.05),
        haze=np.array(weather.haze, np.float32) * rng.uniform(0.94, 1.04),
        clarity=weather.clarity * rng.uniform(0.8, 1.3),
        cloud=weather.cloud,
        exposure=rng.uniform(0.92, 1.24),
    )
