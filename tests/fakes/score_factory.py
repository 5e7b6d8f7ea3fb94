"""Confusions of models that do not exist, with known accuracies, as the stages write them."""

from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.evaluation.scores import Scores
from segformer.cityscapes import CLASS_NAMES, NUM_CLASSES
from segformer.explain.class_gradients import LAYERS

PROTOCOL = "val24/official/8x16/whole/ss/last"
CLASS_SHARES = np.geomspace(0.4, 0.001, NUM_CLASSES)


def make_scores(
    accuracy: float | np.ndarray,
    *,
    seed: int = 0,
    frames: int = 24,
    noise: float = 0.02,
    protocol: str = PROTOCOL,
) -> Scores:
    """Scores of a model that gets about `accuracy` of each class right; 2,000 pixels a frame."""
    rng = np.random.default_rng(seed)
    confusions = np.zeros((frames, NUM_CLASSES, NUM_CLASSES), dtype=np.int64)
    for frame in confusions:
        pixels = rng.multinomial(2000, CLASS_SHARES / CLASS_SHARES.sum())
        right = np.clip(accuracy + rng.normal(0, noise, NUM_CLASSES), 0, 1)
        hits = np.floor(pixels * right).astype(int)
        frame += np.diag(hits)
        # What is missed is taken for the next class.
        frame[np.arange(NUM_CLASSES), (np.arange(NUM_CLASSES) + 1) % NUM_CLASSES] += pixels - hits
    names = [f"val/avalon/avalon_{i:06}_000019" for i in range(frames)]
    return Scores(protocol, names, confusions)


def make_calibrations(scores: Scores, confidence: float) -> np.ndarray:
    """(n, 15, 3): every pixel with this confidence, right as often as the confusions say."""
    pixels = scores.confusions.sum(axis=(1, 2))
    counts = np.zeros((len(pixels), 15, 3))
    right = np.trace(scores.confusions, axis1=1, axis2=2)
    counts[:, int(np.ceil(15 * confidence)) - 1] = np.stack([pixels, pixels * confidence, right], 1)
    return counts


def write_arm(
    folder: Path, name: str, scores: Scores, *, steps: int = 40, confidence: float = 0.9
) -> None:
    """Write what `evaluate` and `train` leave behind for one arm, as far as `ablation` reads it."""
    for stage in ("evaluate", "train"):
        (folder / stage / name).mkdir(parents=True, exist_ok=True)
    scores.save(folder / "evaluate" / name / "confusions.npz")
    calibrations = make_calibrations(scores, confidence)
    np.savez(folder / "evaluate" / name / "counts.npz", calibrations=calibrations)
    step = np.arange(10, steps + 1, 10)
    history = pd.DataFrame({"step": step, "loss": 1 / step, "learning_rate": 1e-3})
    history["val_miou"] = np.where(step % 20 == 0, step / 100, np.nan)
    history.to_csv(folder / "train" / name / "history.csv", index=False)


def write_frequency(path: Path, absent: int = 0) -> None:
    """Write class_frequency.csv, as far as `ablation` reads it; the last classes may be absent."""
    share = np.where(np.arange(NUM_CLASSES) < NUM_CLASSES - absent, CLASS_SHARES, 0)
    pd.DataFrame({"class": CLASS_NAMES, "share": share / share.sum()}).to_csv(path, index=False)


def write_gradients(folder: Path, losses: list[str], seeds: list[int]) -> None:
    """Write the tables of `gradients`: each loss pulls by the share, cubed root of it for dice."""
    folder.mkdir(parents=True, exist_ok=True)
    classes, batches = [], []
    for seed in seeds:
        for step, weights in enumerate(["start", *losses]):
            for loss in losses:
                begin = {"weights": weights, "seed": seed, "step": 40 * min(step, 1), "loss": loss}
                pull = CLASS_SHARES if loss != "dice" else np.cbrt(CLASS_SHARES)
                for name, force in zip(CLASS_NAMES, pull, strict=True):
                    layers = {layer: force * (i + 1) for i, layer in enumerate(LAYERS)}
                    classes.append(begin | {"class": name, "scores": force} | layers)
                layers = {layer: pull.sum() / 2 for layer in LAYERS}
                told = {
                    "frames": 4,
                    "wrong": 0.25,
                    "of_wrong": 0.5,
                    "steadiness": 0.1 if loss == "dice" else 0.2,
                }
                batches.append(begin | layers | told)
    pd.DataFrame(classes).to_csv(folder / "classes.csv", index=False)
    pd.DataFrame(batches).to_csv(folder / "batches.csv", index=False)


def make_paired_scores(
    accuracy: float | np.ndarray,
    *,
    seed: int = 0,
    truth_seed: int = 0,
    frames: int = 24,
    noise: float = 0.02,
    frame_offsets: np.ndarray | None = None,
    frames_with_class: dict[int, int] | None = None,
    protocol: str = PROTOCOL,
) -> Scores:
    """Scores of one of several models of the same frames, whose true pixels `truth_seed` decides.

    `seed` is of a model's own noise, `frame_offsets` adds to its accuracy, and `frames_with_class` says in how many
    of the first frames a class occurs.
    """
    drawn, rng = np.random.default_rng(truth_seed), np.random.default_rng(seed + 1000)
    confusions = np.zeros((frames, NUM_CLASSES, NUM_CLASSES), dtype=np.int64)
    for i, frame in enumerate(confusions):
        pixels = drawn.multinomial(20_000, CLASS_SHARES / CLASS_SHARES.sum())
        for train_id, number in (frames_with_class or {}).items():
            pixels[train_id] *= i < number
        extra = 0 if frame_offsets is None else frame_offsets[i]
        right = np.clip(accuracy + extra + rng.normal(0, noise, NUM_CLASSES), 0, 1)
        hits = np.floor(pixels * right).astype(int)
        frame += np.diag(hits)
        frame[np.arange(NUM_CLASSES), (np.arange(NUM_CLASSES) + 1) % NUM_CLASSES] += pixels - hits
    names = [f"val/avalon/avalon_{i:06}_000019" for i in range(frames)]
    return Scores(protocol, names, confusions)
