"""Make scores of imaginary models with known accuracies, as the stages write them."""

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
    """Make scores of a model with about this accuracy per class and 2,000 pixels per frame."""
    rng = np.random.default_rng(seed)
    confusions = np.zeros((frames, NUM_CLASSES, NUM_CLASSES), dtype=np.int64)
    for frame in confusions:
        pixels = rng.multinomial(2000, CLASS_SHARES / CLASS_SHARES.sum())
        class_accuracy = np.clip(accuracy + rng.normal(0, noise, NUM_CLASSES), 0, 1)
        hits = np.floor(pixels * class_accuracy).astype(int)
        frame += np.diag(hits)
        # Missed pixels are predicted as the next class.
        frame[np.arange(NUM_CLASSES), (np.arange(NUM_CLASSES) + 1) % NUM_CLASSES] += pixels - hits
    names = [f"val/avalon/avalon_{i:06}_000019" for i in range(frames)]
    return Scores(protocol, names, confusions)


def make_calibrations(scores: Scores, confidence: float) -> np.ndarray:
    """Make (n, 15, 3): all pixels have this confidence; their accuracy is that of the scores."""
    pixels = scores.confusions.sum(axis=(1, 2))
    counts = np.zeros((len(pixels), 15, 3))
    hits = np.trace(scores.confusions, axis1=1, axis2=2)
    counts[:, int(np.ceil(15 * confidence)) - 1] = np.stack([pixels, pixels * confidence, hits], 1)
    return counts


def write_arm(
    folder: Path, name: str, scores: Scores, *, steps: int = 40, confidence: float = 0.9
) -> None:
    """Write the files of `evaluate` and `train` that `ablation` reads, for one arm."""
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
    """Write class_frequency.csv as `ablation` reads it; the last `absent` classes have share 0."""
    share = np.where(np.arange(NUM_CLASSES) < NUM_CLASSES - absent, CLASS_SHARES, 0)
    pd.DataFrame({"class": CLASS_NAMES, "share": share / share.sum()}).to_csv(path, index=False)


def write_gradients(folder: Path, losses: list[str], seeds: list[int]) -> None:
    """Write the tables of `gradients`; a class's gradient is its share, for dice the cube root."""
    folder.mkdir(parents=True, exist_ok=True)
    classes, batches = [], []
    for seed in seeds:
        for step, weights in enumerate(["start", *losses]):
            for loss in losses:
                key = {"weights": weights, "seed": seed, "step": 40 * min(step, 1), "loss": loss}
                gradients = CLASS_SHARES if loss != "dice" else np.cbrt(CLASS_SHARES)
                for name, gradient in zip(CLASS_NAMES, gradients, strict=True):
                    layers = {layer: gradient * (i + 1) for i, layer in enumerate(LAYERS)}
                    classes.append(key | {"class": name, "scores": gradient} | layers)
                layers = {layer: gradients.sum() / 2 for layer in LAYERS}
                shares = {
                    "frames": 4,
                    "wrong": 0.25,
                    "of_wrong": 0.5,
                    "steadiness": 0.1 if loss == "dice" else 0.2,
                }
                batches.append(key | layers | shares)
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
    """Make scores of one of several models on the same frames, 20,000 pixels each.

    Args:
        accuracy: of all classes, or of each.
        seed: of the noise of the model.
        truth_seed: of the true pixels.
        frames: number of frames.
        noise: standard deviation of the accuracy.
        frame_offsets: added to the accuracy, by frame.
        frames_with_class: by train id, the number of first frames in which the class occurs.
        protocol: of the scores.
    """
    truth_rng = np.random.default_rng(truth_seed)
    rng = np.random.default_rng(seed + 1000)
    confusions = np.zeros((frames, NUM_CLASSES, NUM_CLASSES), dtype=np.int64)
    for i, frame in enumerate(confusions):
        pixels = truth_rng.multinomial(20_000, CLASS_SHARES / CLASS_SHARES.sum())
        for train_id, number in (frames_with_class or {}).items():
            pixels[train_id] *= i < number
        offset = 0 if frame_offsets is None else frame_offsets[i]
        class_accuracy = np.clip(accuracy + offset + rng.normal(0, noise, NUM_CLASSES), 0, 1)
        hits = np.floor(pixels * class_accuracy).astype(int)
        frame += np.diag(hits)
        frame[np.arange(NUM_CLASSES), (np.arange(NUM_CLASSES) + 1) % NUM_CLASSES] += pixels - hits
    names = [f"val/avalon/avalon_{i:06}_000019" for i in range(frames)]
    return Scores(protocol, names, confusions)
