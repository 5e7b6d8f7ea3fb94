"""The base of the sections of params.yaml: typed, frozen, with all mistakes reported at once."""

import difflib
import json
from collections.abc import Mapping
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails


class Section(BaseModel):
    """The parameters of one stage; subclasses have a field per parameter."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @classmethod
    def parse(cls, name: str, values: object) -> tuple[Self | None, list[str]]:
        """Check the values of the section `name`; return it, or None, and all mistakes."""
        if not isinstance(values, Mapping):
            return None, [f"{name} should be a section with parameters, not {values!r}"]
        try:
            # By way of JSON, strict mode accepts a list for a tuple, but no text for a number.
            return cls.model_validate_json(json.dumps(values, default=str), strict=True), []
        except ValidationError as error:
            messages = [cls._describe_error(name, detail) for detail in error.errors()]
            # A parameter under a misspelled name is not reported as missing too.
            suggested = {text.partition(", did you mean ")[2].rstrip("?") for text in messages}
            return None, [
                text for text in messages if text.removesuffix(" is missing") not in suggested
            ]

    @classmethod
    def _describe_error(cls, name: str, error: ErrorDetails) -> str:
        key = ".".join([name, *(str(part) for part in error["loc"])])
        if error["type"] == "extra_forbidden":
            return f"{key} is not a parameter{suggest_name(key, cls._parameter_names(name))}"
        if error["type"] == "missing":
            return f"{key} is missing"
        reason = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
        if isinstance(error["input"], Mapping):
            return f"{key}: {reason}"
        return f"{key}: {reason} (it is {error['input']!r})"

    @classmethod
    def _parameter_names(cls, name: str) -> list[str]:
        keys = []
        for field, info in cls.model_fields.items():
            keys.append(f"{name}.{field}")
            if isinstance(info.annotation, type) and issubclass(info.annotation, Section):
                keys += info.annotation._parameter_names(f"{name}.{field}")
        return keys


def suggest_name(name: str, choices: list[str]) -> str:
    """Return ", did you mean ...?" with the closest of the names, or an empty text."""
    matches = difflib.get_close_matches(name, choices, n=1)
    return f", did you mean {matches[0]}?" if matches else ""
