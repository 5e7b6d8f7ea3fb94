"""Evaluate: score a trained model on whole validation frames, at the size of their labels."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pydantic import NonNegativeInt, PositiveInt
from torch import nn

from pipeline import score_charts
from pipeline.archive import TRAIN_IDS, Archive, member_name
from pipeline.panels import Scene, draw_panel
from pipeline.publish import publishing
from pipeline.scores import Scores
from pipeline.section import NetworkSize, Section
from pipeline.splits import TEST, VAL
from pipeline.wording import percent
from segformer.checkpoint import load
from segformer.cityscapes import CLASS_NAMES, NUM_CLASSES
from segformer.inference import segment
from segformer.metrics import confusion_matrix
from segformer.model import SegFormer
from segformer.resize import resize_image


class Evaluate(Section):
    """How a model is scored."""

    size: NetworkSize | None
    """What the network sees; null: the frame's own size. Labels are never resized."""
    worst: NonNegativeInt
    """So many frames, those with the lowest mIoU, are shown as panels."""
    bootstrap: PositiveInt
    """Resamples of frames behind the interval of mIoU."""
    seed: NonNegativeInt


@dataclass(frozen=True)
class Evaluation:
    """What is worth telling about an evaluation.

    Attributes:
        metrics: the figures of metrics.json; None where undefined.
        class_iou: by class name; None where the class occurs neither in truth nor in prediction.
        protocol: what was measured on, and how.
        sentence: the result in words.
    """

    metrics: dict[str, float | None]
    class_iou: dict[str, float | None]
    protocol: str
    sentence: str


def run(
    params: Evaluate,
    *,
    model: Path,
    images: Path,
    labels: Path,
    frames: Path,
    split_rule: str,
    out: Path,
    progress: Callable[[int, int], None],
) -> Evaluation:
    """Write the scores, tables and pictures of one model into `out`.

    metrics.json, per_class.csv, per_image.csv, confusions.npz, confusion.png, per_class.png and
    panels/. Memory holds the pixels of one frame at a time.

    Args:
        params: the section `evaluate`.
        model: a folder that segformer.checkpoint.save wrote.
        images: the leftImg8bit zip.
        labels: labels.zip of `remap`.
        frames: frames.csv of `remap`; those of the split test are scored, or of val if it has none.
        split_rule: how frames were divided; a part of the protocol.
        out: where to write.
        progress: called with frames done and frames in all.

    Raises:
        ValueError: for a model of other classes, a picture that cannot be read, or no frame.
    """
    table = _scored_frames(frames)
    keys = table["frame"].tolist()
    network = _load(model)
    with Archive(images) as photographs, Archive(labels) as label_maps, publishing(out) as folder:
        reader = _Reader(network, params.size, photographs, label_maps)
        confusions = np.zeros((len(keys), NUM_CLASSES, NUM_CLASSES), dtype=np.int64)
        for i, key in enumerate(keys):
            confusions[i] = _confusion(reader.scene(key))
            progress(i + 1, len(keys))
        scores = Scores(_protocol(table, split_rule, params.size), keys, confusions)
        metrics = scores.metrics(params.bootstrap, params.seed)
        _write(folder, scores, metrics, name=model.name)
        _draw_worst(folder / "panels", scores, params.worst, reader, name=model.name)
    class_iou = dict(zip(CLASS_NAMES, scores.class_iou(), strict=True))
    return Evaluation(metrics, class_iou, scores.protocol, scores.sentence(metrics))


class _Reader:
    """Brings one frame at a time: photograph, truth, and what the network sees in it."""

    def __init__(
        self,
        network: nn.Module,
        size: tuple[int, int] | None,
        photographs: Archive,
        label_maps: Archive,
    ) -> None:
        self._network = network
        self._size = size
        self._photographs = photographs
        self._label_maps = label_maps

    def scene(self, key: str) -> Scene:
        photograph = self._photographs.photograph(key)
        truth = self._label_maps.open_labels(member_name(key, TRAIN_IDS))
        return Scene(key, photograph, truth, self._predict(photograph, truth.shape))

    def _predict(
        self, photograph: NDArray[np.uint8], output_size: tuple[int, ...]
    ) -> NDArray[np.uint8]:
        # Shrunk as `pack` does it for training; the scores, not the labels, are brought to size.
        seen = resize_image(photograph, self._size) if self._size else photograph
        predicted = segment(
            self._network,
            torch.tensor(seen, device=next(self._network.parameters()).device)[None],
            input_size=(seen.shape[0], seen.shape[1]),
            output_size=(output_size[0], output_size[1]),
        )
        return np.asarray(predicted[0].cpu().numpy(), dtype=np.uint8)


def _scored_frames(frames: Path) -> pd.DataFrame:
    """Those that give the final number: test if there is one, else val."""
    table = pd.read_csv(frames)
    for split in (TEST, VAL):
        chosen = table[table["split"] == split]
        if not chosen.empty:
            return chosen
    raise ValueError(f"{frames}: no frame is of the split test or val; see remap.split")


def _load(folder: Path) -> SegFormer:
    network = load(folder, "cuda" if torch.cuda.is_available() else "cpu")
    if network.num_classes != NUM_CLASSES:
        raise ValueError(
            f"{folder}: the model knows {network.num_classes} classes, but frames are labelled with"
            f" the {NUM_CLASSES} of Cityscapes: train with num_classes={NUM_CLASSES}"
        )
    return network


def _confusion(scene: Scene) -> NDArray[np.int64]:
    predicted, truth = (torch.tensor(one)[None] for one in (scene.predicted, scene.truth))
    counts: NDArray[np.int64] = confusion_matrix(predicted, truth, NUM_CLASSES).numpy()
    return counts


def _protocol(table: pd.DataFrame, split_rule: str, size: tuple[int, int] | None) -> str:
    own = sorted(set(zip(table["rows"], table["columns"], strict=True)))
    sizes = [size] if size else own
    seen = "+".join(f"{rows}x{columns}" for rows, columns in sizes)
    split = table["split"].iloc[0]
    return f"{split}{len(table)}/{split_rule}/{seen}/whole/ss/last"


def _write(folder: Path, scores: Scores, metrics: dict[str, float | None], *, name: str) -> None:
    facts = {"protocol": scores.protocol, **metrics}
    (folder / "metrics.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    scores.per_class().to_csv(folder / "per_class.csv", index=False, float_format="%.6f")
    scores.per_image().to_csv(folder / "per_image.csv", index=False, float_format="%.6f")
    scores.save(folder / "confusions.npz")
    score_charts.draw_confusion(scores, name, folder / "confusion.png")
    score_charts.draw_class_iou(scores, name, metrics, folder / "per_class.png")


def _draw_worst(folder: Path, scores: Scores, worst: int, reader: _Reader, *, name: str) -> None:
    """Draw the frames of lowest mIoU; they are predicted once more, so that none had to be kept."""
    folder.mkdir()
    # A frame that is all void has no mIoU: it is neither good nor bad.
    miou = scores.per_image().set_index("frame")["miou"].dropna().sort_values(kind="stable")
    for rank, (key, value) in enumerate(miou[:worst].items(), start=1):
        title = f"{key}    mIoU {percent(value)} %"
        subtitle = f"{name}, number {rank} of the worst frames    {scores.protocol}"
        path = folder / f"{rank:02}_{Path(str(key)).name}.png"
        draw_panel(reader.scene(str(key)), title, subtitle, path)
