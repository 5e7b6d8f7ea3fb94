"""What a run was made from, as files that are kept with it: parameters, graph, sums, changes."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline import git

PATCH_NAME = "changes.patch"
"""What the working tree's code had on top of the commit; empty if it had nothing."""

PATCH_TOO_LARGE = b"# too large to be kept\n"
"""What the patch says instead, if it is."""

_SNAPSHOT_FILES = ("params.yaml", "dvc.yaml", "dvc.lock")
_CODE_PATTERNS = (":/*.py", ":/dvc.yaml")  # and nothing else: a file beside them may hold a secret
_MAX_PATCH_BYTES = 2**20  # bytes of a patch


@contextmanager
def source_snapshot(params: Path) -> Iterator[Path]:
    """Give a folder with copies of the parameters, DVC's files, and the patch if there is one."""
    with TemporaryDirectory() as name:
        folder = Path(name) / "source"
        folder.mkdir()
        for path in (params, *map(Path, _SNAPSHOT_FILES[1:])):
            if path.exists():
                shutil.copyfile(path, folder / path.name)
        changes = diff_working_tree()
        # Also without any: that of an earlier attempt at the same training must not stay.
        (folder / PATCH_NAME).write_bytes(changes if len(changes) <= _MAX_PATCH_BYTES else PATCH_TOO_LARGE)
        yield folder


def diff_working_tree() -> bytes:
    """The code's difference to the commit, new files included; empty outside Git."""
    index = git.capture_output("rev-parse", "--git-path", "index").strip().decode()
    if not index:
        return b""
    with TemporaryDirectory() as folder:
        # A copy of the index, so that nothing is staged in the user's own.
        own = Path(folder) / "index"
        if Path(index).exists():
            shutil.copyfile(index, own)
        for part in _CODE_PATTERNS:  # one by one: Git adds nothing if one of them is not there
            git.capture_output("add", "--all", "--", part, index=own)
        return git.capture_output("diff", "--cached", "--binary", "HEAD", "--", *_CODE_PATTERNS, index=own)
