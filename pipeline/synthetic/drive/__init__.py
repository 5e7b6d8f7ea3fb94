"""Draws drives: frames of one street seen by a camera that moves along it, with labels."""

from pipeline.synthetic.drive.frames import Drive, open_drive

__all__ = ["Drive", "open_drive"]
