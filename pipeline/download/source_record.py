"""source.json: what the last download took, and what has changed in its folder since."""

import json
from pathlib import Path
from typing import Any

from pipeline.dataset.packages import select_packages
from pipeline.download import from_folder


def read_source_record(source: Path) -> dict[str, Any]:
    """Read the source.json of a download; empty if there is none.

    Raises:
        ValueError: if it is damaged.
    """
    try:
        facts = json.loads(source.read_text(encoding="utf-8")) if source.exists() else {}
        is_whole = facts.get("source") != "folder" or (
            isinstance(facts["folder"], str) and all(len(file) == 3 for file in facts["files"])
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        is_whole = False
    if not is_whole:
        raise ValueError(f"{source} is damaged: `dvc repro --force download`")
    return dict(facts)


def find_source_changes(source: Path) -> list[str]:
    """What has changed in the folder that the raw data was taken from, a sentence per change.

    Args:
        source: the `source.json` of the last download.

    Returns:
        Nothing if all is as it was, if the source is no folder, or if the folder is gone or empty
        (a disk that is not mounted): what was taken in stays good without it.

    Raises:
        ValueError: if `source` is not what `run` writes.
    """
    facts = read_source_record(source)
    folder = Path(facts.get("folder", ""))
    if facts.get("source") != "folder" or not folder.is_dir():
        return []
    found = from_folder.find_packages(folder, select_packages(facts.get("train_extra", False)))
    if not any(found.values()):
        return []
    before = {name: rest for name, *rest in facts["files"]}
    now = {name: rest for name, *rest in from_folder.list_files(folder, found)}
    groups = {
        "added": sorted(now.keys() - before.keys()),
        "removed": sorted(before.keys() - now.keys()),
        "changed": sorted(name for name in now.keys() & before.keys() if now[name] != before[name]),
    }
    return [
        f"{folder}: {len(names)} {'file' if len(names) == 1 else 'files'} {what} since the download"
        f" (first: {names[0]})"
        for what, names in groups.items()
        if names
    ]
