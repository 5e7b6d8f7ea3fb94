"""Presets: named sets of parameters that replace values in params.yaml."""

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
"""The key in a preset for the preset that it starts from."""

_SOURCE = "download.source"


@dataclass(frozen=True)
class PresetPlan:
    """The effect of a preset on a file of parameters.

    Attributes:
        changes: a line per changed parameter, `train.variant: b0 -> b3`.
        kept_parameters: a line per parameter that stays although the preset has another value.
        text: the text of the file after the changes.
    """

    changes: list[str]
    kept_parameters: list[str]
    text: str


def list_presets(folder: Path) -> list[str]:
    """The names of the presets in a folder."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def read_description(name: str, folder: Path) -> str:
    """The first line of a preset, a comment."""
    text = _preset_path(name, folder).read_text(encoding="utf-8")
    return text.partition("\n")[0].removeprefix("# ")


def find_active_presets(params: Path, folder: Path) -> list[str]:
    """The presets whose values are all in a file of parameters."""
    current = flatten_sections(read_sections(params))
    return [
        name
        for name in list_presets(folder)
        if not _find_changes(_read_requested(name, folder, current)[0], current)
    ]


def plan_changes(name: str, params: Path, folder: Path) -> PresetPlan:
    """Return the changes that a preset would make to a file of parameters; write nothing.

    Raises:
        ValueError: if there is no such preset, or if the result has mistakes: with all mistakes,
            the preset's and the file's.
    """
    document = read_sections(params, _make_yaml())
    _, existing_mistakes = check_config(document)
    current = flatten_sections(document)
    requested, kept = _read_requested(name, folder, current)
    changes = _find_changes(requested, current)
    for key, value in changes.items():
        _set_value(document, key, value)
    _, mistakes = check_config(document)
    if mistakes:
        raise ParameterError(
            "\n".join(
                f"{params if mistake in existing_mistakes else f'preset {name}'}: {mistake}"
                for mistake in mistakes
            )
        )
    lines = [
        f"{key}: {_format_current(current, key)} -> {_format_value(new)}"
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
    """A preset's values by dotted name, and a line for each value left to the file."""
    requested = _merge_inherited(name, folder)
    # The source depends on the machine: these two provide the same frames.
    if (current.get(_SOURCE), requested.get(_SOURCE)) == ("folder", "cityscapes"):
        del requested[_SOURCE]
        return requested, [f"{_SOURCE} stays folder: {current.get('download.folder')}"]
    return requested, []


def _merge_inherited(name: str, folder: Path, chain: tuple[str, ...] = ()) -> dict[str, Any]:
    """The values of a preset and of those that it extends; its own take precedence."""
    if name in chain:
        raise ParameterError(f"preset {name} extends itself: {' -> '.join([*chain, name])}")
    values = read_sections(_preset_path(name, folder), _make_yaml())
    base = values.pop(EXTENDS, None)
    inherited = _merge_inherited(base, folder, (*chain, name)) if base else {}
    return inherited | flatten_sections(values)


def _preset_path(name: str, folder: Path) -> Path:
    names = list_presets(folder)
    if not names:
        raise ParameterError(f"{folder} has no presets: run from the project's folder")
    if name not in names:
        raise ParameterError(
            f"there is no preset {name}{suggest_name(name, names)}; choose from {', '.join(names)}"
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
        # Before the last key, which holds the blank line after the section.
        document.insert(max(len(document) - 1, 0), last, _strip_comment(value))


def _strip_comment(value: Any) -> Any:
    """A value without its comment in the preset."""
    if not isinstance(value, list):
        return value
    sequence = CommentedSeq(value)
    sequence.fa.set_flow_style()
    return sequence


def _align_comment(section: CommentedMap, key: str) -> None:
    """Align the comment of a parameter with those of its section, at least two spaces behind it."""
    comments = {
        name: tokens[2]
        for name, tokens in section.ca.items.items()
        if tokens[2] and tokens[2].value.strip()  # ruamel keeps a blank line as a comment
    }
    if key in comments:
        columns = Counter(token.column for token in comments.values())
        common = min(columns, key=lambda column: (-columns[column], column))
        end = section.lc.col + len(f"{key}: {_format_value(section[key])}")
        comments[key].column = max(common, end + 2)


class _NullRepresenter(RoundTripRepresenter):
    """Writes `null` for None; ruamel's own representer leaves the value empty."""


_NullRepresenter.add_representer(
    type(None), lambda self, _: self.represent_scalar("tag:yaml.org,2002:null", "null")
)


def _make_yaml() -> YAML:
    yaml = YAML()
    yaml.Representer = _NullRepresenter
    yaml.preserve_quotes = True
    yaml.width = 10_000  # columns: do not wrap lines
    return yaml


def _dump(value: Any) -> str:
    text = StringIO()
    _make_yaml().dump(value, text)
    return text.getvalue()


def _format_value(value: Any) -> str:
    """A value as in the file, on one line."""
    if isinstance(value, list):
        return f"[{', '.join(map(_format_value, value))}]"
    return _dump(value).removesuffix("...\n").strip()
