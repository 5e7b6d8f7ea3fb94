"""What the arms of an ablation left behind, read, and checked to be comparable."""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.evaluation.bootstrap import Floats
from pipeline.evaluation.scores import Scores


@dataclass(frozen=True)
class Arm:
    """One training of one loss.

    Attributes:
        name: `{loss}-{seed}`.
        scores: of its model on the validation frames.
        calibrations: (n, m, 3) counts of the same frames, see segformer.metrics.calibration.
        validation: columns step and val_miou, as measured during training.
        steps: of training.
    """

    name: str
    scores: Scores
    calibrations: Floats
    validation: pd.DataFrame
    steps: int


def read_arms(
    evaluations: Path, histories: Path, losses: Sequence[str], seeds: Sequence[int]
) -> dict[str, list[Arm]]:
    """Read every arm: for each loss a list over seeds.

    Args:
        evaluations: the folder with a folder of `evaluate` per arm.
        histories: the folder with a folder of `train` per arm.
        losses: the losses to compare.
        seeds: the seeds that each was trained with.

    Raises:
        ValueError: naming all arms that are missing, or two that were measured by unlike protocols,
            on other frames, or after other budgets.
    """
    names = {loss: [f"{loss}-{seed}" for seed in seeds] for loss in losses}
    _check_present(evaluations, histories, [name for loss in losses for name in names[loss]])
    arms = {
        loss: [_read_arm(evaluations / name, histories / name) for name in names[loss]]
        for loss in losses
    }
    _check_comparable([arm for of_loss in arms.values() for arm in of_loss])
    return arms


def _read_arm(evaluation: Path, training: Path) -> Arm:
    path = training / "history.csv"
    history = pd.read_csv(path)
    absent = [column for column in ("step", "val_miou") if column not in history.columns]
    if absent or history.empty:
        lacks = f"no column {absent[0]}" if absent else "no steps"
        raise ValueError(f"{path} has {lacks}: run `dvc repro --force train@{training.name}`")
    scores = Scores.load(evaluation / "confusions.npz")
    return Arm(
        evaluation.name,
        scores,
        _read_calibrations(evaluation / "counts.npz", len(scores.frames)),
        history[["step", "val_miou"]].dropna(),
        int(history["step"].max()),
    )


def _read_calibrations(path: Path, num_frames: int) -> Floats:
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as held:
            calibrations: Floats = held["calibrations"]
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} holds no calibrations ({error}): evaluate again") from None
    if calibrations.ndim != 3 or len(calibrations) != num_frames or calibrations.shape[2] != 3:
        raise ValueError(
            f"{path}: calibrations {calibrations.shape} of {num_frames} frames; evaluate again"
        )
    return calibrations


def _check_present(evaluations: Path, histories: Path, names: Sequence[str]) -> None:
    missing = []
    for name in names:
        for path, stage in (
            (evaluations / name / "confusions.npz", "evaluate"),
            (evaluations / name / "counts.npz", "evaluate"),
            (histories / name / "history.csv", "train"),
        ):
            if not path.is_file():
                missing.append(f"{path} is missing: run `dvc repro {stage}@{name}`")
    if missing:
        raise ValueError("\n".join(missing))


def _check_comparable(arms: Sequence[Arm]) -> None:
    first = arms[0]
    for arm in arms[1:]:
        facts = {
            "protocols": (first.scores.protocol, arm.scores.protocol),
            "budgets": (f"{first.steps} steps", f"{arm.steps} steps"),
            "steps of validation": (_validation_steps(first), _validation_steps(arm)),
        }
        for kind, (one, other) in facts.items():
            if one != other:
                raise ValueError(
                    f"ablation: {first.name} and {arm.name} have unlike {kind}, {one} and {other};"
                    " bring all arms up to date with `dvc repro`"
                )
        if first.scores.frames != arm.scores.frames:
            odd = sorted(set(first.scores.frames) ^ set(arm.scores.frames))
            which = f"only one of them has {odd[0]}" if odd else "their order differs"
            raise ValueError(
                f"ablation: {first.name} and {arm.name} were scored on other frames ({which});"
                " bring all arms up to date with `dvc repro`"
            )


def _validation_steps(arm: Arm) -> str:
    return ", ".join(map(str, arm.validation["step"])) or "none"
