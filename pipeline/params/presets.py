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

from pipeline.params.load import ParameterError, check_config, flatten_sections, read_sections
from pipeline.params.section import suggest_name

EXTENDS = "extends"
"""In a preset: the one that it starts from."""

_SOURCE = "download.source"


@dataclass(frozen=True)
class PresetPlan:
    """What a preset makes of a file of parameters.

    Attributes:
        changes: a line per parameter that becomes another, `train.variant: b0 -> b3`.
        kept_parameters: a line per parameter that stays though the preset says otherwise.
        text: of the file afterwards.
    """

    changes: list[str]
    kept_parameters: list[str]
    text: str


def list_presets(folder: Path) -> list[str]:
    """The presets in a folder."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def read_description(name: str, folder: Path) -> str:
    """The first line of a preset, a comment."""
    return (
        _preset_path(name, folder).read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
    )


def find_active_presets(params: Path, folder: Path) -> list[str]:
    """The presets of which a file of parameters says all that they say."""
    there = flatten_sections(read_sections(params))
    return [
        name
        for name in list_presets(folder)
        if not _find_changes(_read_requested(name, folder, there)[0], there)
    ]


def plan_changes(name: str, params: Path, folder: Path) -> PresetPlan:
    """Say what a preset would change in a file of parameters; nothing is written.

    Raises:
        ValueError: if there is no such preset, or if what comes out were not right: with every
            mistake, the preset's and the file's own.
    """
    document = read_sections(params, _make_yaml())
    _, mistaken_before = check_config(document)
    there = flatten_sections(document)
    wanted, kept = _read_requested(name, folder, there)
    changes = _find_changes(wanted, there)
    for key, value in changes.items():
        _set_value(document, key, value)
    _, mistakes = check_config(document)
    if mistakes:
        raise ParameterError(
            "\n".join(
                f"{params if mistake in mistaken_before else f'preset {name}'}: {mistake}"
                for mistake in mistakes
            )
        )
    lines = [
        f"{key}: {_format_current(there, key)} -> {_format_value(new)}"
        for key, new in changes.items()
    ]
    return PresetPlan(lines, kept, _dump(document))


def _find_changes(requested: Mapping[str, Any], current: Mapping[str, Any]) -> dict[str, Any]:
    return {key: new for key, new in requested.items() if key not in current or current[key] != new}


def _format_current(current: Mapping[str, Any], key: str) -> str:
    return _format_value(current[key]) if key in current else "(missing)"


def _read_requested(
    name: str, folder: Path, current: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """What a preset says, by dotted name, without what is left to the file; and what that is."""
    wanted = _merge_inherited(name, folder)
    # Where the frames come from is the machine's business: these two are the same frames.
    if (current.get(_SOURCE), wanted.get(_SOURCE)) == ("folder", "cityscapes"):
        del wanted[_SOURCE]
        return wanted, [f"{_SOURCE} stays folder: {current.get('download.folder')}"]
    return wanted, []


def _merge_inherited(name: str, folder: Path, chain: tuple[str, ...] = ()) -> dict[str, Any]:
    """What a preset and those that it extends say; the nearest counts."""
    if name in chain:
        raise ParameterError(f"preset {name} extends itself: {' -> '.join([*chain, name])}")
    values = read_sections(_preset_path(name, folder), _make_yaml())
    base = values.pop(EXTENDS, None)
    inherited = _merge_inherited(base, folder, (*chain, name)) if base else {}
    return inherited | flatten_sections(values)


def _preset_path(name: str, folder: Path) -> Path:
    known = list_presets(folder)
    if not known:
        raise ParameterError(f"there are no presets in {folder}: run from the project's folder")
    if name not in known:
        raise ParameterError(
            f"there is no preset {name}{suggest_name(name, known)}; choose from {', '.join(known)}"
        )
    return folder / f"{name}.yaml"


def _set_value(document: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        if not isinstance(document.get(section), CommentedMap):
            document[section] = CommentedMap()
        document = document[section]
    assert isinstance(document, CommentedMap)
    if last in document:
        document[last] = _strip_comment(value)
        _align_comment(document, last)
    else:
        # Before the last one, to which the blank line after the section belongs.
        document.insert(max(len(document) - 1, 0), last, _strip_comment(value))


def _strip_comment(value: Any) -> Any:
    """A value without the comment that it has in the preset."""
    if not isinstance(value, list):
        return value
    bare = CommentedSeq(value)
    bare.fa.set_flow_style()
    return bare


def _align_comment(section: CommentedMap, key: str) -> None:
    """Put the comment behind a parameter where most of its section are, or two spaces behind it."""
    comments = {
        name: tokens[2]
        for name, tokens in section.ca.items.items()
        if tokens[2] and tokens[2].value.strip()  # a blank line is kept as a comment too
    }
    if key in comments:
        columns = Counter(token.column for token in comments.values())
        usual = min(columns, key=lambda column: (-columns[column], column))
        end = section.lc.col + len(f"{key}: {_format_value(section[key])}")
        comments[key].column = max(usual, end + 2)


class _NullRepresenter(RoundTripRepresenter):
    """Writes `null` where there is nothing; ruamel's own leaves the place empty."""


_NullRepresenter.add_representer(
    type(None), lambda self, _: self.represent_scalar("tag:yaml.org,2002:null", "null")
)


def _make_yaml() -> YAML:
    yaml = YAML()
    yaml.Representer = _NullRepresenter
    yaml.preserve_quotes = True
    yaml.width = 10_000  # columns: no line is broken
    return yaml


def _dump(value: Any) -> str:
    text = StringIO()
    _make_yaml().dump(value, text)
    return text.getvalue()


def _format_value(value: Any) -> str:
    """A value as it stands in the file, on one line."""
    if isinstance(value, list):
        return f"[{', '.join(map(_format_value, value))}]"
    return _dump(value).removesuffix("...\n").strip()
