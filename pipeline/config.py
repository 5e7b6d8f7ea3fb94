"""Reads params.yaml: each section checked against its stage, every mistake named at once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.section import Section, nearest
from pipeline.stages.ablation import Ablation
from pipeline.stages.download import Download
from pipeline.stages.evaluate import Evaluate
from pipeline.stages.frequency import Frequency
from pipeline.stages.pack import Pack
from pipeline.stages.pretrained import Pretrained
from pipeline.stages.remap import Remap
from pipeline.stages.train import Train


@dataclass(frozen=True)
class Config:
    """All of params.yaml: a section per stage, in the graph's order."""

    download: Download
    remap: Remap
    frequency: Frequency
    pack: Pack
    pretrained: Pretrained
    train: Train
    evaluate: Evaluate
    ablation: Ablation


SECTIONS: dict[str, type[Section]] = dict(Config.__annotations__)


class ParameterError(ValueError):
    """What is wrong in params.yaml: a line per mistake."""


def load(path: Path) -> Config:
    """Read and check the parameters in the YAML file at `path`.

    Raises:
        ParameterError: with every misspelt, missing or impossible parameter.
    """
    values = _read(path)
    mistakes = [
        f"{name} is not a section{nearest(name, list(SECTIONS))}"
        for name in values
        if name not in SECTIONS
    ]
    sections: dict[str, Any] = {}
    for name, kind in SECTIONS.items():
        sections[name], wrong = kind.parse(name, values.get(name, {}))
        mistakes += wrong
    if not mistakes and sections["remap"].train_extra and not sections["download"].train_extra:
        mistakes.append("remap.train_extra is true, so download.train_extra has to be true as well")
    if mistakes:
        raise ParameterError("\n".join(f"{path}: {mistake}" for mistake in mistakes))
    return Config(**sections)


def _read(path: Path) -> dict[str, Any]:
    try:
        values = YAML(typ="safe").load(path)
    except FileNotFoundError:
        raise ParameterError(f"{path} is missing: run from the project's folder") from None
    except YAMLError as error:
        raise ParameterError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(values, dict):
        raise ParameterError(f"{path} holds no sections: write {', '.join(SECTIONS)}")
    return values


def flat(config: Config, *sections: str) -> dict[str, Any]:
    """The parameters of some sections under the names that DVC gives them: `train.steps`."""
    values: dict[str, Any] = {}
    for section in sections:
        _flatten(section, getattr(config, section).model_dump(mode="json"), values)
    return values


def _flatten(name: str, value: Any, into: dict[str, Any]) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            _flatten(f"{name}.{key}", inner, into)
    else:
        into[name] = value
