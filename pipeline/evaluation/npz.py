"""Open the npz files of an evaluation."""

import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@contextmanager
def open_npz(path: Path) -> Iterator[Mapping[str, NDArray[np.generic]]]:
    """Give the arrays of an npz file by name, read without unpickling.

    Raises:
        ValueError: naming the file and the remedy, if the file is missing or damaged, or if the
            `with` block reads an array that the file does not have.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            yield arrays
    except FileNotFoundError:
        raise ValueError(f"{path} is missing: evaluate again") from None
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} cannot be read ({error}): evaluate again") from None
