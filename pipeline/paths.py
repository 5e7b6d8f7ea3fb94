"""The project's folder, to which paths in params.yaml and MLflow's store are relative."""

import os
from pathlib import Path


def project_root() -> Path:
    """Return the project's folder, also from the temporary copy of a queued experiment."""
    root = Path(os.environ.get("DVC_ROOT") or Path.cwd()).resolve()
    for folder in (root, *root.parents):
        if folder.parts[-3:] == (".dvc", "tmp", "exps"):
            return folder.parents[2]
    return root
