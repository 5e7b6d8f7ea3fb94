"""Paint the background: sky, clouds, and far hills, woods and roofs at the horizon."""

import numpy as np

from pipeline.synthetic.canvas import LABEL_ID
from pipeline.synthetic.view import View, channels, rgb


def paint_sky(view: View) -> None:
    """Fill the canvas with sky: brighter at the horizon, clouds in perspective."""
    camera, light = view.camera, view.light
    rows = min(camera.rows, int(camera.horizon) + 2)
    # Every other pixel is enough for what has no edges.
    up = np.maximum(camera.horizon - np.arange(0, rows, 2, dtype=np.float32), 0.5)[:, None]
    height = np.minimum(up / camera.rows * 2.2, 1)
    sky = channels(light.haze) + channels(light.zenith - light.haze) * height
    sideways = np.arange(0, camera.columns, 2, dtype=np.float32)[None] - camera.center
    # A layer of cloud overhead is a plane: what is far is seen small.
    distance = camera.rows / (up + 0.08 * camera.rows)
    offset = view.rng.uniform(0, 256, 2)
    noise = view.texture.patches(
        distance * 40 + float(offset[0]), sideways / camera.rows * distance * 40 + 1000
    )
    cover = np.clip((noise + 1.4 * (light.cloud - 0.5)) * 1.6, 0, 1)
    lit = 0.97 - 0.16 * light.cloud + 0.10 * noise
    cloud = lit * channels(0.5 + 0.5 * light.haze)
    painted = sky + (cloud - sky) * (cover * 0.85)
    whole = painted.repeat(2, axis=1).repeat(2, axis=2)
    view.canvas.color[:, :rows] = whole[:, :rows, : camera.columns]
    view.canvas.ids[:rows] = LABEL_ID["sky"]


def paint_backdrop(view: View) -> None:
    """Close the horizon with a far line of woods or town."""
    camera, rng = view.camera, view.rng
    woods = rng.random() < 0.6
    z = 350.0
    offset = rng.uniform(0, 256)
    column = np.arange(camera.columns, dtype=np.float32)
    x = (column - camera.center) * z / camera.focal
    if woods:
        top = 9 + 5 * view.texture.patches(np.full_like(x, offset), x * 0.35 + 2000)
        name, color = "vegetation", rgb(0.20, 0.28, 0.16)
    else:
        top = 9 + 14 * view.texture.cell_value(np.full_like(x, offset), x / 14 + 2000)
        name, color = "building", rgb(0.50, 0.47, 0.44)
    ends = camera.horizon + (camera.height - top) * camera.focal / z
    first, last = int(max(0, ends.min())), int(camera.horizon) + 1
    row = np.arange(first, last, dtype=np.float32)[:, None]
    grain = view.texture.grain(row * 2, column[None] * 2)
    shaded = channels(color * view.light.irradiance(rgb(0, 0, -1))) * (1 + 0.2 * grain)
    view.canvas.patch(
        slice(first, last), slice(0, camera.columns), shaded, LABEL_ID[name], z, row > ends[None]
    )
