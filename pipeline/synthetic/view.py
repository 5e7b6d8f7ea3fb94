"""The state shared by all painters: canvas, camera, light, textures and random generator."""

from dataclasses import dataclass

import numpy as np

from pipeline.synthetic.camera import Camera, FloatArray
from pipeline.synthetic.canvas import Canvas
from pipeline.synthetic.light import Light
from pipeline.synthetic.texture import Texture


@dataclass(frozen=True)
class View:
    """One frame in the making.

    `shade` is (h, w) float32, the share of light that shadows take away; `moving` whether the frame
    belongs to a drive: details then fade before they flicker, and crowns of trees have the same
    parts near and far.
    """

    canvas: Canvas
    camera: Camera
    light: Light
    texture: Texture
    rng: np.random.Generator
    shade: FloatArray
    moving: bool = False


def rgb(*color: float) -> FloatArray:
    """(3,) float32 from three numbers in 0..1."""
    return np.array(color, np.float32)


def channels(color: FloatArray) -> FloatArray:
    """(3,) -> (3, 1, 1), to broadcast with images, which are (3, h, w) while they are painted."""
    return color.reshape(3, 1, 1)


def approximate_exp_decay(distance: FloatArray) -> FloatArray:
    """1 at 0 and less beyond, within 0.03 of exp(-distance); any shape, no distance below 0.

    In a few operations that every processor rounds alike, as it does not for the exponential: a
    frame is the same picture everywhere.
    """
    share: FloatArray = 1 / (1 + distance * (1 + distance * (0.5 + distance * (1 / 6))))
    return share


def pick_color(rng: np.random.Generator, colors: FloatArray, spread: float = 0.04) -> FloatArray:
    """Return (3,), a random row of a table of colors (n, 3), slightly varied."""
    row = colors[int(rng.integers(len(colors)))]
    brightness = rng.uniform(1 - 3 * spread, 1 + 3 * spread)
    varied: FloatArray = row * brightness + rng.uniform(-spread, spread, 3) / 2
    return varied.clip(0.02, 1).astype(np.float32)
