"""Turn a canvas into a photograph: the car's own hood, borders, haze, lens and sensor."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.synthetic.camera import FloatArray
from pipeline.synthetic.canvas import LABEL_ID, SKY_DEPTH
from pipeline.synthetic.view import View, approximate_exp_decay, channels, rgb

_BRIGHTNESS = 0.30  # Mean of a picture that is well exposed, before the gain.


def paint_bonnet(view: View) -> None:
    """Paint the hood of the car that carries the camera: a glossy curve along the bottom."""
    camera, canvas, rng = view.camera, view.canvas, view.rng
    column = (np.arange(camera.columns, dtype=np.float32) + 0.5) / camera.columns * 2 - 1
    rise = rng.uniform(0.045, 0.075)
    edge = camera.rows * (1 - rise * (1 - 0.62 * column * column * np.sqrt(np.abs(column))))
    first = int(edge.min())
    row = np.arange(first, camera.rows, dtype=np.float32)[:, None]
    below = (row - edge[None]) / (camera.rows * rise)
    paint = rng.uniform(0.05, 0.16) * channels(rgb(1, 1.02, 1.06))
    mirror = approximate_exp_decay(np.maximum(below, 0) * 5) * channels(view.light.haze) * 0.5
    crease = approximate_exp_decay(((np.abs(column) - 0.42 - 0.1 * below) / 0.015) ** 2) * 0.05
    color = (paint + mirror * 0.8 + crease) * np.clip(1.15 - 0.5 * below, 0.5, 1.2)
    canvas.patch(
        slice(first, camera.rows), slice(0, camera.columns), color.astype(np.float32),
        LABEL_ID["ego vehicle"], 2.0, below > 0,
    )  # fmt: skip


def label_borders(view: View) -> None:
    """Label the rim as the real set does: rectification border, then out of roi."""
    canvas, rng = view.canvas, view.rng
    rows = canvas.shape[0]
    side = np.abs(np.linspace(-1, 1, rows)) ** 2
    for mirrored in (False, True):
        # Rectified images bulge: the strip without data is widest in two corners.
        wide = (0.009 + 0.020 * side * rng.uniform(0.6, 1.3)) * rows
        most = int(np.ceil(wide.max()))
        strip = np.arange(most)[None] < wide[:, None]
        part = np.s_[:, -most:] if mirrored else np.s_[:, :most]
        strip = strip[:, ::-1] if mirrored else strip
        canvas.ids[part][strip] = LABEL_ID["rectification border"]
        canvas.color[:, *part] *= 1 - 0.5 * strip
    rim = max(1, round(rows * 5 / 1024))
    for edge in (np.s_[:rim], np.s_[-rim:], np.s_[:, :rim], np.s_[:, -rim:]):
        canvas.ids[edge] = LABEL_ID["out of roi"]


def to_uint8_image(picture: FloatArray) -> NDArray[np.uint8]:
    """(3, h, w), clipped to 0..1 -> (h, w, 3) uint8."""
    whole = np.clip(picture * 255 + 0.5, 0, 255).astype(np.uint8)
    return np.ascontiguousarray(whole.transpose(1, 2, 0))


def measure_brightness(picture: FloatArray) -> float:
    """Return the mean of (3, h, w), read at every fourth row and column."""
    return float(picture[:, ::4, ::4].mean(dtype=np.float64))


def expose(
    view: View, scale: int, *, noise: float | None = None, brightness: float | None = None
) -> FloatArray:
    """Return (3, h, w) float32, the image on the sensor, `scale` times smaller than the canvas.

    `noise` is the standard deviation of the sensor's noise; None draws one. `brightness` is the
    mean that the exposure adapts to; None takes that of the image.
    """
    color, rng = view.canvas.color, view.rng
    rows, columns = color.shape[1] // scale, color.shape[2] // scale
    if scale > 1:
        parts = (color[:, r::scale, c::scale] for r in range(scale) for c in range(scale))
        picture = next(parts).copy()
        for part in parts:
            picture += part
        picture *= np.float32(1 / scale**2)
    else:
        picture = ndimage.uniform_filter(color, size=(1, 2, 2))
    _add_haze(view, picture, scale)
    down = np.linspace(-1, 1, rows, dtype=np.float32)[:, None] ** 2
    across = np.linspace(-1, 1, columns, dtype=np.float32)[None] ** 2
    # The camera's own exposure, which brightens a street that lies in the shade of its houses.
    if brightness is None:
        brightness = measure_brightness(picture)
    gain = view.light.exposure * min(max(_BRIGHTNESS / brightness, 0.9), 1.4)
    picture *= np.float32(gain) * (1 - 0.09 * down - 0.09 * across)
    # A shoulder, so that bright plaster and clouds do not burn out to flat white.
    picture = picture * 1.18 / (1 + 0.18 * picture**2)
    strength = rng.uniform(0.006, 0.016) if noise is None else noise
    picture += np.float32(strength) * rng.standard_normal((rows, columns), dtype=np.float32)
    return picture


def _add_haze(view: View, picture: FloatArray, scale: int) -> None:
    """Blend colors toward the haze with distance."""
    canvas = view.canvas
    depth = canvas.depth[::scale, ::scale]
    share = 1 - approximate_exp_decay(np.minimum(depth, 3000) * np.float32(1 / view.light.clarity))
    share *= np.float32(0.8) * (depth < SKY_DEPTH)  # The sky has its haze already.
    picture += (channels(view.light.haze * 0.92) - picture) * share
