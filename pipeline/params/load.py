"""Reads and checks params.yaml; reports all mistakes at once."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.params.ablation import Ablation
from pipeline.params.download import Download
from pipeline.params.evaluate import Evaluate
from pipeline.params.explain import Explain
from pipeline.params.frequency import Frequency
from pipeline.params.gradients import Gradients
from pipeline.params.pack import Pack
from pipeline.params.pretrained import Pretrained
from pipeline.params.promote import Promote
from pipeline.params.remap import Remap
from pipeline.params.section import Section, suggest_name
from pipeline.params.train import Train


@dataclass(frozen=True)
class Config:
    """All of params.yaml: a section per stage, in the order of the graph, and the gate's."""

    download: Download
    remap: Remap
    frequency: Frequency
    pack: Pack
    pretrained: Pretrained
    train: Train
    evaluate: Evaluate
    gradients: Gradients
    ablation: Ablation
    explain: Explain
    promote: Promote


SECTIONS: dict[str, type[Section]] = dict(Config.__annotations__)

LAUNCH = "launch"
"""The key, not a section, with the command by which dvc.yaml starts training processes."""


class ParameterError(ValueError):
    """The mistakes in params.yaml, a line each."""


def load_config(path: Path) -> Config:
    """Read and check the parameters in the YAML file at `path`.

    Raises:
        ParameterError: with every misspelled, missing or impossible parameter.
    """
    config, mistakes = check_config(read_sections(path))
    if config is None:
        raise ParameterError("\n".join(f"{path}: {mistake}" for mistake in mistakes))
    return config


def check_config(values: Mapping[str, Any]) -> tuple[Config | None, list[str]]:
    """Check all sections; return the parameters, or None, and all mistakes."""
    names = [LAUNCH, *SECTIONS]
    mistakes = [
        f"{name} is not a section{suggest_name(name, names)}"
        for name in values
        if name not in names
    ]
    if not str(values.get(LAUNCH)).endswith(" -m"):
        mistakes.append(
            f"{LAUNCH}: should be `python -m`, or `torchrun` with its options and `-m` at the end"
        )
    sections: dict[str, Any] = {}
    for name, kind in SECTIONS.items():
        sections[name], section_mistakes = kind.parse(name, values.get(name, {}))
        mistakes += section_mistakes
    if not mistakes and sections["remap"].train_extra and not sections["download"].train_extra:
        mistakes.append("remap.train_extra is true, so download.train_extra must be true too")
    return (None if mistakes else Config(**sections)), mistakes


def read_sections(path: Path, yaml: YAML | None = None) -> dict[str, Any]:
    """Read the sections of a YAML file, unchecked.

    Args:
        path: the file.
        yaml: the loader; the default gives plain values.

    Raises:
        ParameterError: if the file is missing, not YAML, or has no sections.
    """
    try:
        values = (yaml or YAML(typ="safe")).load(path)
    except FileNotFoundError:
        raise ParameterError(f"{path} is missing: run from the project's folder") from None
    except YAMLError as error:
        raise ParameterError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(values, dict):
        raise ParameterError(f"{path} has no sections: write {', '.join(SECTIONS)}")
    return values


def flatten_config(config: Config, *sections: str) -> dict[str, Any]:
    """The parameters of some sections by DVC's dotted names: `train.steps`."""
    return flatten_sections(
        {name: getattr(config, name).model_dump(mode="json") for name in sections}
    )


def flatten_sections(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of nested sections, by dotted name."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        flat |= flatten_sections(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat
