"""Cityscapes on disk: packages, file names, archives, PNGs, splits, tables and counts."""
