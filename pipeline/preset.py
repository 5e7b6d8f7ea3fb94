"""Presets: recipes that take the place of what params.yaml says."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.representer import RoundTripRepresenter

from pipeline.config import ParameterError, check, leaves, read
from pipeline.section import nearest

EXTENDS = "extends"
"""In a preset: the one that it starts from."""

_SOURCE = "download.source"


@dataclass(frozen=True)
class Plan:
    """What a preset makes of a file of parameters.

    Attributes:
        changes: a line per parameter that becomes another, `train.variant: b0 -> b3`.
        kept: a line per parameter that stays though the preset says otherwise.
        text: of the file afterwards.
    """

    changes: list[str]
    kept: list[str]
    text: str


def names(folder: Path) -> list[str]:
    """The presets in a folder."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def description(name: str, folder: Path) -> str:
    """The first line of a preset, a comment."""
    return _path(name, folder).read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")


def in_force(params: Path, folder: Path) -> list[str]:
    """The presets of which a file of parameters says all that they say."""
    there = leaves(read(params))
    return [name for name in names(folder) if not _changes(_wanted(name, folder, there)[0], there)]


def plan(name: str, params: Path, folder: Path) -> Plan:
    """Say what a preset would change in a file of parameters; nothing is written.

    Raises:
        ValueError: if there is no such preset, or if what comes out were not right: with every
            mistake, the preset's and the file's own.
    """
    document = read(params, _yaml())
    _, mistaken_before = check(document)
    there = leaves(document)
    wanted, kept = _wanted(name, folder, there)
    changes = _changes(wanted, there)
    for key, value in changes.items():
        _put(document, key, value)
    _, mistakes = check(document)
    if mistakes:
        raise ParameterError(
            "\n".join(
                f"{params if mistake in mistaken_before else f'preset {name}'}: {mistake}"
                for mistake in mistakes
            )
        )
    lines = [f"{key}: {_standing(there, key)} -> {_text(new)}" for key, new in changes.items()]
    return Plan(lines, kept, _dumped(document))


def _changes(wanted: Mapping[str, Any], there: Mapping[str, Any]) -> dict[str, Any]:
    return {key: new for key, new in wanted.items() if key not in there or there[key] != new}


def _standing(there: Mapping[str, Any], key: str) -> str:
    return _text(there[key]) if key in there else "(missing)"


def _wanted(name: str, folder: Path, there: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """What a preset says, by dotted name, without what is left to the file; and what that is."""
    wanted = _recipe(name, folder)
    # Where the frames come from is the machine's business: these two are the same frames.
    if (there.get(_SOURCE), wanted.get(_SOURCE)) == ("folder", "cityscapes"):
        del wanted[_SOURCE]
        return wanted, [f"{_SOURCE} stays folder: {there.get('download.folder')}"]
    return wanted, []


def _recipe(name: str, folder: Path, above: tuple[str, ...] = ()) -> dict[str, Any]:
    """What a preset and those that it extends say; the nearest counts."""
    if name in above:
        raise ParameterError(f"preset {name} extends itself: {' -> '.join([*above, name])}")
    values = read(_path(name, folder), _yaml())
    base = values.pop(EXTENDS, None)
    inherited = _recipe(base, folder, (*above, name)) if base else {}
    return inherited | leaves(values)


def _path(name: str, folder: Path) -> Path:
    known = names(folder)
    if not known:
        raise ParameterError(f"there are no presets in {folder}: run from the project's folder")
    if name not in known:
        raise ParameterError(
            f"there is no preset {name}{nearest(name, known)}; choose from {', '.join(known)}"
        )
    return folder / f"{name}.yaml"


def _put(document: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        if not isinstance(document.get(section), CommentedMap):
            document[section] = CommentedMap()
        document = document[section]
    assert isinstance(document, CommentedMap)
    if last in document:
        document[last] = _bare(value)
        _align(document, last)
    else:
        # Before the last one, to which the blank line after the section belongs.
        document.insert(max(len(document) - 1, 0), last, _bare(value))


def _bare(value: Any) -> Any:
    """A value without the comment that it has in the preset."""
    if not isinstance(value, list):
        return value
    bare = CommentedSeq(value)
    bare.fa.set_flow_style()
    return bare


def _align(section: CommentedMap, key: str) -> None:
    """Put the comment behind a parameter where most of its section are, or two spaces behind it."""
    comments = {
        name: tokens[2]
        for name, tokens in section.ca.items.items()
        if tokens[2] and tokens[2].value.strip()  # a blank line is kept as a comment too
    }
    if key in comments:
        columns = Counter(token.column for token in comments.values())
        usual = min(columns, key=lambda column: (-columns[column], column))
        end = section.lc.col + len(f"{key}: {_text(section[key])}")
        comments[key].column = max(usual, end + 2)


class _WithNull(RoundTripRepresenter):
    """Writes `null` where there is nothing; ruamel's own leaves the place empty."""


_WithNull.add_representer(
    type(None), lambda self, _: self.represent_scalar("tag:yaml.org,2002:null", "null")
)


def _yaml() -> YAML:
    yaml = YAML()
    yaml.Representer = _WithNull
    yaml.preserve_quotes = True
    yaml.width = 10_000  # columns: no line is broken
    return yaml


def _dumped(value: Any) -> str:
    text = StringIO()
    _yaml().dump(value, text)
    return text.getvalue()


def _text(value: Any) -> str:
    """A value as it stands in the file, on one line."""
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    return _dumped(value).removesuffix("...\n").strip()
