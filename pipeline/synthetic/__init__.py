"""Draws labeled street scenes with the names and ids of the official data set."""

from pipeline.synthetic.scene import SyntheticFrame, draw_frame
from pipeline.synthetic.writing import write, write_drive

__all__ = ["SyntheticFrame", "draw_frame", "write", "write_drive"]
