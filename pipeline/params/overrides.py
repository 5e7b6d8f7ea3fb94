"""Parameters that one retraining is to have otherwise than params.yaml: `train.steps=20`."""

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
    """Return the overrides as `dvc exp run --set-param` takes them, and all parameters with them.

    Blank ones are left out.

    Args:
        overrides: `section.parameter=value` each, the value as in YAML.
        params: params.yaml, which is read only.

    Raises:
        ValueError: with every mistake.
    """
    document = read_sections(params)
    keys = list(flatten_sections(document))
    _, mistaken_before = check_config(document)
    settings, mistakes = [], []
    for override in filter(None, map(str.strip, overrides)):
        if not (found := _ASSIGNMENT.fullmatch(override)):
            mistakes.append(f"{override}: should be section.parameter=value, say train.steps=20")
        elif found["key"] not in keys:
            mistakes.append(f"{found['key']} is not a parameter{suggest_name(found['key'], keys)}")
        elif _VALUE_LIST.fullmatch(found["value"]):
            mistakes.append(
                f"{override}: one value, please; a list is [{found['value']}], and one retraining"
                " after the other tries several"
            )
        else:
            settings.append(f"{found['key']}={found['value']}")
            _set_value(document, found["key"], _parse_value(found["value"]))
    mistakes += [mistake for mistake in check_config(document)[1] if mistake not in mistaken_before]
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
