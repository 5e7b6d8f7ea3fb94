"""Writes a table of scores as CSV, each row with the protocol by which it was measured."""

from pathlib import Path

import pandas as pd


def write_score_table(path: Path, table: pd.DataFrame, protocol: str) -> None:
    """Write a table of scores; its first column is the protocol, numbers have six digits."""
    rows = table.copy()
    rows.insert(0, "protocol", protocol)
    rows.to_csv(path, index=False, float_format="%.6f")
