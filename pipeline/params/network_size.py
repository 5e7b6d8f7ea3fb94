"""The type of a parameter that is the size of a network's input."""

from typing import Annotated

from pydantic import Field

from segformer.model.variants import MIN_SIDE

_NetworkSide = Annotated[int, Field(ge=MIN_SIDE)]
NetworkSize = tuple[_NetworkSide, _NetworkSide]
"""Rows and columns in pixels; each at least MIN_SIDE."""
