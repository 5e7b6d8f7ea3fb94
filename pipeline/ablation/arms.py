"""Reads the scores and histories of an ablation's arms and checks that they are comparable."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.evaluation.bootstrap import Floats
from pipeline.evaluation.npz import open_npz
from pipeline.evaluation.scores import Scores
from pipeline.params.ablation import arm_name


@dataclass(frozen=True)
class Arm:
    """One training of one loss.

    Attributes:
        name: `{loss}-{seed}`.
        scores: its model's scores on the validation frames.
        calibrations: (n, m, 3) counts on the same frames, see segformer.metrics.calibration.
        validation: columns step and val_miou, as measured during training.
        steps: the number of training steps.
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
        evaluations: the folder with an output folder of `evaluate` per arm.
        histories: the folder with an output folder of `train` per arm.
        losses: the losses to compare.
        seeds: the seeds that each loss was trained with.

    Raises:
        ValueError: if arms are missing or a file of theirs is damaged, or if two arms differ in
            protocol, frames, budget or validation steps.
    """
    names = {loss: [arm_name(loss, seed) for seed in seeds] for loss in losses}
    _check_present(evaluations, histories, [name for loss in losses for name in names[loss]])
    arms = {
        loss: [_read_arm(evaluations / name, histories / name) for name in names[loss]]
        for loss in losses
    }
    _check_comparable([arm for runs in arms.values() for arm in runs])
    return arms


def _read_arm(evaluation: Path, training: Path) -> Arm:
    path = training / "history.csv"
    history = pd.read_csv(path)
    absent = [column for column in ("step", "val_miou") if column not in history.columns]
    if absent or history.empty:
        problem = f"no column {absent[0]}" if absent else "no steps"
        raise ValueError(f"{path} has {problem}: run `dvc repro --force train@{training.name}`")
    scores = Scores.load(evaluation / "confusions.npz")
    return Arm(
        name=evaluation.name,
        scores=scores,
        calibrations=_read_calibrations(evaluation / "counts.npz", len(scores.frames)),
        validation=history[["step", "val_miou"]].dropna(),
        steps=int(history["step"].max()),
    )


def _read_calibrations(path: Path, num_frames: int) -> Floats:
    with open_npz(path) as arrays:
        calibrations: Floats = np.asarray(arrays["calibrations"], dtype=np.float64)
    if calibrations.ndim != 3 or len(calibrations) != num_frames or calibrations.shape[2] != 3:
        raise ValueError(
            f"{path} has calibrations of shape {calibrations.shape}, expected ({num_frames}, bins,"
            f" 3): {_evaluate_remedy(path)}"
        )
    return calibrations


def _evaluate_remedy(path: Path) -> str:
    return f"run `dvc repro --force evaluate@{path.parent.name}`"


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
        settings = {
            "protocols": (first.scores.protocol, arm.scores.protocol),
            "budgets": (f"{first.steps} steps", f"{arm.steps} steps"),
            "validation steps": (_validation_steps(first), _validation_steps(arm)),
        }
        for kind, (expected, actual) in settings.items():
            if expected != actual:
                raise ValueError(
                    f"ablation: {first.name} and {arm.name} have different {kind}, {expected} and"
                    f" {actual}; bring all arms up to date with `dvc repro`"
                )
        if first.scores.frames != arm.scores.frames:
            unshared = sorted(set(first.scores.frames) ^ set(arm.scores.frames))
            reason = f"only one of them has {unshared[0]}" if unshared else "their order differs"
            raise ValueError(
                f"ablation: {first.name} and {arm.name} were scored on different frames ({reason});"
                " bring all arms up to date with `dvc repro`"
            )


def _validation_steps(arm: Arm) -> str:
    return ", ".join(map(str, arm.validation["step"])) or "none"
