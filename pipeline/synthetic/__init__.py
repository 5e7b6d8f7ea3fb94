"""Street scenes drawn here, with their labels, in the names and ids of the official set."""

from pipeline.synthetic.scene import SyntheticFrame, draw_frame
from pipeline.synthetic.writing import write

__all__ = ["SyntheticFrame", "draw_frame", "write"]
