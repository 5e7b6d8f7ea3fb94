"""Overrides of params.yaml for one retraining: `train.steps=20`."""

import re
from collections.abc import Iterable, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.params.load import check_config, flatten_sections, read_sections
from pipeline.params.section import suggest_name

_ASSIGNMENT = re.compile(r"(?P<key>[\w.]+)\s*=\s*(?P<value>\S.*)")
_VALUE_LIST = re.compile(r"[^\[{\"'][^,]*,.*")  # DVC makes an experiment of each


def check_overrides(overrides: Iterable[str], params: Path) -> tuple[list[str], dict[str, Any]]:
    """Return the overrides for `dvc exp run --set-param`, and all parameters with them applied.

    Blank overrides are left out.

    Args:
        overrides: `section.parameter=value`, with the value as in YAML.
        params: params.yaml; it is not changed.

    Raises:
        ValueError: with all mistakes.
    """
    document = read_sections(params)
    keys = list(flatten_sections(document))
    _, existing_mistakes = check_config(document)
    settings, mistakes = [], []
    for override in filter(None, map(str.strip, overrides)):
        if not (match := _ASSIGNMENT.fullmatch(override)):
            mistakes.append(
                f"{override}: should be section.parameter=value, such as train.steps=20"
            )
            continue
        key, value = match["key"], match["value"]
        if key not in keys:
            mistakes.append(f"{key} is not a parameter{suggest_name(key, keys)}")
        elif _VALUE_LIST.fullmatch(value):
            mistakes.append(
                f"{override}: expected one value; write a list as [{value}], or start one"
                " retraining per value"
            )
        else:
            settings.append(f"{key}={value}")
            _set_value(document, key, _parse_value(value))
    _, new_mistakes = check_config(document)
    mistakes += [mistake for mistake in new_mistakes if mistake not in existing_mistakes]
    if mistakes:
        raise ValueError("\n".join(f"overrides: {mistake}" for mistake in mistakes))
    return settings, document


def _set_value(document: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        document = document[section]
        assert isinstance(document, Mapping)
    document[last] = value


def _parse_value(text: str) -> Any:
    try:
        return YAML(typ="safe").load(StringIO(text))
    except YAMLError:
        return text
