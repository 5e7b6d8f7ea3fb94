"""The size of an image that the network can take, as a type of parameters."""

from typing import Annotated

from pydantic import Field

from segformer.model.variants import MIN_SIDE

_NetworkSide = Annotated[int, Field(ge=MIN_SIDE)]
NetworkSize = tuple[_NetworkSide, _NetworkSide]
"""Rows and columns of what the network sees, in pixels."""
