"""Blocks: what stands or moves along some meters of a drive's street."""

from dataclasses import dataclass

from pipeline.synthetic.buildings import Plot
from pipeline.synthetic.drive.objects import Thing
from pipeline.synthetic.ground import Wear

BLOCK = 60.0
"""Meters that are planned together."""

_BLOCKS_WITH_OWN_NUMBERS = 20
_NUMBERS_PER_BLOCK = 50


@dataclass(frozen=True)
class StreetBlock:
    """One block: things, and per side houses and side streets; z in meters along the street."""

    things: tuple[Thing, ...]
    houses: tuple[list[Plot], list[Plot]] = ([], [])
    crossings: tuple[tuple[tuple[float, float], ...], ...] = ((), ())
    zebras: tuple[float, ...] = ()
    wear: tuple[Wear, ...] = ()


def instance_number(block: int, slot: int) -> int:
    """Return a number below 1000 that no other thing in view has.

    Slots of a class in a block: below 20 standing things, then those of the moving streams.
    """
    return block % _BLOCKS_WITH_OWN_NUMBERS * _NUMBERS_PER_BLOCK + slot
