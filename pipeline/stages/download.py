"""Download: bring the raw data, always as the two official zips, wherever they come from."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from pipeline import synthetic
from pipeline.archive import writing
from pipeline.root import project_root
from pipeline.section import Section
from segformer.atomic import replacing, write_text

IMAGE_ZIP = "leftImg8bit_trainvaltest.zip"
LABEL_ZIP = "gtFine_trainvaltest.zip"
_ZIPS = {"leftImg8bit": IMAGE_ZIP, "gtFine": LABEL_ZIP}

DrawableSide = Annotated[int, Field(ge=32)]
"""Pixels; on less there is no street to be seen."""

Progress = Callable[[int, int], None]
"""Called with how many pieces are done, and of how many."""


class Synthetic(Section):
    """What to draw when the source is `synthetic`."""

    train: PositiveInt
    """Training frames."""
    val: PositiveInt
    """Validation frames."""
    size: tuple[DrawableSide, DrawableSide]
    seed: NonNegativeInt


class Download(Section):
    """Where the raw data comes from."""

    source: Literal["synthetic", "folder"]
    folder: str | None
    """For `folder`: an extracted Cityscapes tree, or a folder that holds the two official zips."""
    synthetic: Synthetic

    @model_validator(mode="after")
    def _folder_is_named(self) -> Self:
        if self.source == "folder" and not self.folder:
            raise ValueError("source is folder, so folder must name one")
        return self


def run(params: Download, *, out: Path, progress: Progress) -> None:
    """Write the two zips and `source.json` into `out`.

    Raises:
        ValueError: if the folder holds neither the official zips nor an extracted tree.
    """
    out.mkdir(parents=True, exist_ok=True)
    facts: dict[str, Any] = {"source": params.source}
    if params.source == "synthetic":
        drawn = params.synthetic
        facts |= drawn.model_dump(mode="json")
        synthetic.write(
            out / IMAGE_ZIP,
            out / LABEL_ZIP,
            train=drawn.train,
            val=drawn.val,
            size=drawn.size,
            seed=drawn.seed,
            progress=progress,
        )
    else:
        assert params.folder is not None
        folder = project_root() / params.folder
        files = _files(folder)
        facts |= {"folder": str(folder.resolve()), "files": _listing(folder, files)}
        _take_in(folder, files, out, progress)
    write_text(out / "source.json", json.dumps(facts, indent=1) + "\n")


def source_changes(source: Path) -> list[str]:
    """What has changed in the folder that the raw data was taken from, a sentence per change.

    Args:
        source: the `source.json` of the last download.

    Returns:
        Nothing if all is as it was, if the source is no folder, or if the folder is gone or empty
        (a disk that is not mounted): what was taken in stays good without it.
    """
    facts = json.loads(source.read_text()) if source.exists() else {}
    folder = Path(facts.get("folder", ""))
    if facts.get("source") != "folder" or not folder.is_dir():
        return []
    found = _find(folder)
    if not any(found.values()):
        return []
    before = {name: rest for name, *rest in facts["files"]}
    now = {name: rest for name, *rest in _listing(folder, found)}
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


def _files(folder: Path) -> dict[str, list[Path]]:
    """What `_find` finds, refused unless it is something of each package."""
    if not folder.is_dir():
        raise ValueError(f"download.folder: {folder.resolve()} is not a folder")
    found = _find(folder)
    missing = [f"{_ZIPS[package]} nor {package}/" for package, files in found.items() if not files]
    if missing:
        raise ValueError(
            f"download.folder: {folder.resolve()} holds neither {', nor '.join(missing)}"
            " with pictures: name the folder that holds the official zips, or the extracted tree"
        )
    return found


def _find(folder: Path) -> dict[str, list[Path]]:
    """The files of each package: its official zip alone, or all that is in its extracted folder."""
    return {
        package: [folder / name]
        if (folder / name).is_file()
        else sorted(_pictures(folder / package))
        for package, name in _ZIPS.items()
    }


def _pictures(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.suffix in {".png", ".json"})


def _listing(folder: Path, files: dict[str, list[Path]]) -> list[list[Any]]:
    paths = [path for package in files.values() for path in package]
    return [
        [path.relative_to(folder).as_posix(), path.stat().st_size, path.stat().st_mtime_ns]
        for path in paths
    ]


def _take_in(folder: Path, files: dict[str, list[Path]], out: Path, progress: Progress) -> None:
    total = sum(map(len, files.values()))
    done = 0
    for package, paths in files.items():
        target = out / _ZIPS[package]
        if paths == [folder / target.name]:
            with replacing(target) as part:
                shutil.copyfile(paths[0], part)
            done += 1
            progress(done, total)
            continue
        with writing(target) as archive:
            for path in paths:
                archive.add(path.relative_to(folder).as_posix(), path.read_bytes())
                done += 1
                progress(done, total)
