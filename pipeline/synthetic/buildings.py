"""Houses: facades with stories, windows, shops and roofs, in rows along and across the street."""

from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pipeline.synthetic.camera import FloatArray
from pipeline.synthetic.canvas import LABEL_ID
from pipeline.synthetic.planes import Region, paint_across, paint_alongside
from pipeline.synthetic.street import Side, Street
from pipeline.synthetic.view import View, approximate_exp_decay, channels, pick_color, rgb

_PLASTER = np.array(
    [
        (0.82, 0.78, 0.68), (0.76, 0.69, 0.56), (0.69, 0.67, 0.63), (0.52, 0.35, 0.29),
        (0.60, 0.44, 0.36), (0.67, 0.71, 0.73), (0.77, 0.69, 0.64), (0.86, 0.85, 0.82),
        (0.60, 0.58, 0.54), (0.68, 0.70, 0.62), (0.49, 0.47, 0.45), (0.80, 0.72, 0.55),
    ],
    np.float32,
)  # fmt: skip
_ROOF = np.array([(0.46, 0.24, 0.18), (0.34, 0.32, 0.33), (0.50, 0.32, 0.24)], np.float32)
_AWNING = np.array(
    [(0.62, 0.14, 0.14), (0.14, 0.30, 0.22), (0.16, 0.22, 0.42), (0.78, 0.62, 0.20),
     (0.30, 0.28, 0.27), (0.80, 0.78, 0.74)],
    np.float32,
)  # fmt: skip


@dataclass(frozen=True)
class Facade:
    """One house's face; lengths in meters, `window` as shares of a bay and of a story."""

    plaster: FloatArray
    trim: FloatArray
    roof: FloatArray
    awning: FloatArray
    story: float
    bay: float
    window: tuple[float, float]
    eaves: float
    height: float
    shop: bool
    seed: float
    frame: float = field(default=0.05)


Plot = tuple[float, float, Facade]
"""The z where a house begins and where it ends, meters ahead, and the house."""


def draw_facade(rng: np.random.Generator, stories: int) -> Facade:
    """Design a house of some stories."""
    story = rng.uniform(2.9, 3.7)
    modern = rng.random() < 0.25
    plaster = pick_color(rng, _PLASTER)
    trim = plaster * rng.uniform(0.7, 0.9) if rng.random() < 0.3 else rgb(0.88, 0.87, 0.84)
    eaves = story * stories + rng.uniform(0.3, 0.9)
    return Facade(
        plaster=plaster,
        trim=trim.astype(np.float32),
        roof=pick_color(rng, _ROOF),
        awning=pick_color(rng, _AWNING),
        story=story,
        bay=rng.uniform(2.6, 4.2) if modern else rng.uniform(1.7, 2.7),
        window=(rng.uniform(0.7, 0.95), rng.uniform(0.5, 0.7))
        if modern
        else (rng.uniform(0.4, 0.6), rng.uniform(0.48, 0.66)),
        eaves=eaves,
        height=eaves + (0.0 if modern else rng.uniform(1.0, 2.8)),
        shop=bool(rng.random() < 0.4),
        seed=rng.uniform(0, 256),
    )


def paint_facade(facade: Facade, region: Region) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Plaster, then floor lines, windows, the ground floor and the roof on top of it."""
    texture, light = region.view.texture, region.view.light
    along, up = region.along + 1000, region.up
    tone = 1 + 0.07 * texture.patches(up * 4, along * 3 + facade.seed)
    tone = (
        tone
        + 0.03 * texture.grain(up * 23, along * 23)
        - 0.10 * approximate_exp_decay(np.maximum(up, 0))
    )
    color = channels(facade.plaster) * tone
    story, bay = up / facade.story, along / facade.bay
    level, column = np.floor(story), np.floor(bay)
    # Details fade where fewer than about four pixels are left for a bay.
    fade = np.clip((facade.bay * region.density - 2) / 5, 0, 1)
    ledge = (story - level < 0.055) & (level > 0)
    color = _blend(color, channels(facade.trim * 0.94), ledge * (0.8 * fade))
    wide, tall = facade.window
    off_side, off_level = np.abs(bay - column - 0.5), np.abs(story - level - 0.48)
    window = (off_side < wide / 2) & (off_level < tall / 2) & (up < facade.eaves - 0.2)
    pane = (off_side < wide / 2 - facade.frame) & (off_level < tall / 2 - facade.frame) & window
    color = _blend(color, channels(facade.trim), window * fade)
    pane &= (off_side > 0.022) | (fade < 0.5)  # A bar down the middle of each window.
    color = _blend(color, _glass(region, facade, level, column), pane * (0.3 + 0.7 * fade))
    if facade.shop:
        color = _shop(region, facade, color, fade)
    roof = channels(facade.roof) * (1 + 0.12 * texture.grain(up * 30, along * 14))
    color = _blend(color, roof, (up > facade.eaves).astype(np.float32))
    gutter = np.abs(up - facade.eaves) < 0.14
    color = _blend(color, channels(facade.trim * 0.7), gutter * np.float32(0.8))
    return color * channels(light.irradiance(region.normal)), np.ones(up.shape, bool)


def _glass(region: Region, facade: Facade, level: FloatArray, column: FloatArray) -> FloatArray:
    """Dark panes that mirror some sky, some with curtains."""
    lot = region.view.texture.cell_value(level + facade.seed, column)
    mirror = 0.12 + 0.25 * np.clip(region.up / 20, 0, 1)
    pane = channels(rgb(0.13, 0.15, 0.18)) + channels(region.view.light.zenith) * mirror
    curtain = channels(rgb(0.74, 0.71, 0.65))
    return np.where(lot > 0.72, 0.45 * pane + 0.55 * curtain, pane * (0.7 + 0.6 * lot))


def _shop(region: Region, facade: Facade, color: FloatArray, fade: FloatArray) -> FloatArray:
    along, up = region.along + 1000, region.up
    front = along / (facade.bay * 2)
    number = np.floor(front)
    lot = region.view.texture.cell_value(number + facade.seed, number * 3)
    inside = (up > 0.35) & (up < 2.55) & (np.abs(front - number - 0.5) < 0.44)
    goods = channels(rgb(0.27, 0.25, 0.23)) + 0.13 * region.view.texture.patches(up * 5, along * 9)
    goods = goods * (0.6 + 0.9 * lot) + channels(rgb(0.10, 0.08, 0.03))
    base = (up < 3.3) & (up > 0)
    color = _blend(color, channels(facade.plaster * 0.62), base * np.float32(0.8))
    color = _blend(color, np.clip(goods, 0.05, 0.9), inside * (0.35 + 0.6 * fade))
    hue = np.where(lot > 0.5, channels(facade.awning), channels(facade.awning[::-1]))
    sign = (up > 2.6) & (up < 3.15) & (np.abs(front - number - 0.5) < 0.46)
    return _blend(color, hue, sign * np.float32(0.85))


def _blend(color: FloatArray, over: FloatArray, weight: FloatArray) -> FloatArray:
    return color + (over - color) * weight


def paint_row(view: View, street: Street, side: Side) -> FloatArray:
    """Build one side of the street, far houses first.

    Returns:
        (n, 3): z from, z to and height of every house, for the shadows they cast.
    """
    plots = _plots(view.rng, street, side)
    paint_houses(view, side, plots)
    return np.array([(start, stop, f.height) for start, stop, f in plots], np.float32)


def paint_houses(view: View, side: Side, plots: list[Plot]) -> None:
    """Paint houses on one side of the street; `plots` from near to far."""
    identity = LABEL_ID["building"]
    x = side.sign * side.facade
    before = [(0.0, 0.0), *((stop, facade.height) for _, stop, facade in plots)]
    for (start, stop, facade), (end, height) in reversed(list(zip(plots, before, strict=False))):
        deep = x + side.sign * 11.0
        face = partial(paint_facade, facade)
        if start - end > 0.5 or facade.height > height:
            paint_across(view, max(start, 1.5), (x, deep), facade.height, identity, face)
        paint_alongside(view, x, (start, stop), facade.height, identity, face)


GAP_SHARE = {
    "houses": 0.06,
    "avenue": 0.06,
    "villas": 0.8,
    "park": 0.85,
    "wall": 0.35,
    "railing": 0.5,
}
"""How often a gap follows a house, by the kind of the side."""


def _plots(rng: np.random.Generator, street: Street, side: Side) -> list[Plot]:
    loose = GAP_SHARE[side.kind]
    place, plots = -4.0, []
    while place < street.end:
        stop = place + float(rng.uniform(9, 22))
        crossing = side.crossing
        if crossing is not None and place < crossing[1] and stop > crossing[0]:
            stop = crossing[0] - 2.0
        if stop - place > 5:
            plots.append((place, stop, draw_facade(rng, int(rng.integers(*side.stories)) + 1)))
        place = stop if stop > place else place + 1.0
        if crossing is not None and crossing[0] - 3 < place < crossing[1]:
            place = crossing[1] + 2.0
        elif rng.random() < loose:
            place += float(rng.uniform(4, 22))
    return plots


def paint_far_end(view: View, street: Street) -> None:
    """Close the street with houses that face the camera, unless it runs on to the horizon."""
    rng = view.rng
    if street.end > 150:
        return
    place, last = -street.left.facade - 14, street.right.facade + 14
    while place < last:
        stop = place + float(rng.uniform(9, 20))
        if rng.random() < 0.85:
            facade = draw_facade(rng, int(rng.integers(3, 8)))
            face = partial(paint_facade, facade)
            z = street.end + 14
            paint_across(view, z, (place, stop), facade.height, LABEL_ID["building"], face)
        place = stop
