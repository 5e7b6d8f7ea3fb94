"""source.json: the source of the last download, and changes in its folder since."""

import json
from pathlib import Path
from typing import Any

from pipeline.dataset.packages import DEMO_VIDEO, select_packages
from pipeline.download import from_folder
from pipeline.formatting import format_count
from segformer.cityscapes import TRAIN_EXTRA


def read_source_record(source: Path) -> dict[str, Any]:
    """Read the source.json of a download; empty if there is none.

    Raises:
        ValueError: if it is damaged.
    """
    try:
        record = json.loads(source.read_text(encoding="utf-8")) if source.exists() else {}
        is_valid = record.get("source") != "folder" or (
            isinstance(record["folder"], str) and all(len(file) == 3 for file in record["files"])
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        is_valid = False
    if not is_valid:
        raise ValueError(f"{source} is damaged: `dvc repro --force download`")
    return dict(record)


def find_source_changes(source: Path) -> list[str]:
    """Compare the source folder with the last download; return a message per kind of change.

    Args:
        source: the `source.json` of the last download.

    Returns:
        An empty list if nothing changed, if the source is not a folder, or if the folder is missing
        or empty (a disk that is not mounted): imported data stays valid without it.

    Raises:
        ValueError: if `source` is damaged.
    """
    record = read_source_record(source)
    folder = Path(record.get("folder", ""))
    if record.get("source") != "folder" or not folder.is_dir():
        return []
    options = {name: record.get(name, False) for name in (TRAIN_EXTRA, DEMO_VIDEO)}
    packages = from_folder.find_packages(folder, select_packages(**options))
    if not any(packages.values()):
        return []
    old = {name: properties for name, *properties in record["files"]}
    new = {name: properties for name, *properties in from_folder.list_files(folder, packages)}
    changes = {
        "added": sorted(new.keys() - old.keys()),
        "removed": sorted(old.keys() - new.keys()),
        "changed": sorted(name for name in new.keys() & old.keys() if new[name] != old[name]),
    }
    return [
        f"{folder}: {format_count(len(names), 'file')} {change} since the download"
        f" (first: {names[0]})"
        for change, names in changes.items()
        if names
    ]
