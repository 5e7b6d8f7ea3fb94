"""One section of params.yaml: typed, frozen, checked with every mistake named at once."""

import difflib
import json
from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails


class Section(BaseModel):
    """The parameters of one stage: subclass it in the stage's own module, a field per parameter."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @classmethod
    def parse(cls, name: str, values: object) -> tuple[Self | None, list[str]]:
        """Check what stands under `name`: the section, or None and every mistake found."""
        if not isinstance(values, Mapping):
            return None, [f"{name} should be a section with parameters below it, not {values!r}"]
        try:
            # Through JSON: strict mode then takes a list for a tuple but no text for a number.
            return cls.model_validate_json(json.dumps(values, default=str), strict=True), []
        except ValidationError as mistakes:
            told = [cls._describe_error(name, mistake) for mistake in mistakes.errors()]
            # What a misspelt name should have been is not missing as well.
            meant = {one.partition(", did you mean ")[2].rstrip("?") for one in told}
            return None, [one for one in told if one.removesuffix(" is missing") not in meant]

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
    """Return ", did you mean ...?" with the closest of the right names, or an empty text."""
    close: list[Any] = difflib.get_close_matches(name, choices, n=1)
    return f", did you mean {close[0]}?" if close else ""
