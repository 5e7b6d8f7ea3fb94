"""The results of a stage, put into its folder together once all of them are made."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing_contents(out: Path) -> Iterator[Path]:
    """Give an empty folder beside `out`; on success what it holds moves into `out`.

    Files and folders of the same names are replaced, never written into (they may be read-only
    links into a cache); whatever else is in `out` stays. On an error `out` stays as it was.
    """
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        out.mkdir(exist_ok=True)
        for piece in sorted(part.iterdir()):
            target = out / piece.name
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
            piece.replace(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
