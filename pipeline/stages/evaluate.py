"""Score a trained model on the validation frames, at the size of their labels."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.dataset.archive import Archive
from pipeline.evaluation import outputs
from pipeline.evaluation.corruptions.registry import SEVERITIES, corrupt_image, derive_frame_seed
from pipeline.evaluation.counts import DatasetCounts, FrameCounts, count_frame
from pipeline.evaluation.frames import Frame, FrameReader, select_scored_rows
from pipeline.evaluation.outputs import CorruptedConfusions
from pipeline.evaluation.panels import FramePanel, draw_panels, select_frames
from pipeline.evaluation.predictions import PredictionWriter
from pipeline.evaluation.protocol import format_protocol, read_image_sizes
from pipeline.evaluation.scores import Scores
from pipeline.params.evaluate import CorruptionName, Evaluate
from segformer.atomic import replacing_contents
from segformer.cityscapes import CLASS_NAMES, NUM_CLASSES
from segformer.device import best_device
from segformer.inference.predictor import Predictor
from segformer.metrics.confusion import confusion_matrix
from segformer.weights import checkpoint


@dataclass(frozen=True)
class EvaluationResult:
    """The results of an evaluation that are reported.

    Attributes:
        metrics: the values of metrics.json; None where undefined.
        class_iou: by class name; None where the class is neither in the truth nor in a prediction.
        protocol: the frames and the settings of the measurement.
        sentence: the result in words.
    """

    metrics: dict[str, float | None]
    class_iou: dict[str, float | None]
    protocol: str
    sentence: str


@dataclass(frozen=True)
class EvaluationData:
    """The files that frames are read from.

    Attributes:
        images: the leftImg8bit zip.
        ground_truth: the gtFine zip, from which instances are read.
        labels: labels.zip of `remap`.
        frames: frames.csv of `remap`; the split test is scored, or val if there is no test frame.
    """

    images: Path
    ground_truth: Path
    labels: Path
    frames: Path


def evaluate_model(
    params: Evaluate,
    *,
    model: Path,
    data: EvaluationData,
    split_id: str,
    out: Path,
    progress: Callable[[int, int], None],
) -> EvaluationResult:
    """Write the scores, tables and figures of one model into `out`.

    Memory holds the pixels of a few frames at a time and a few kilobytes of counts per frame.

    Args:
        params: the section `evaluate`.
        model: a folder written by segformer.weights.checkpoint.save.
        data: the frames.
        split_id: how frames were divided; a part of the protocol.
        out: where to write.
        progress: called with frames done and frames in all.

    Raises:
        ValueError: if the model has other classes, a picture cannot be read, frames are too small
            for a scale, or there is no frame to score.
    """
    table = select_scored_rows(data.frames)
    keys = table["frame"].tolist()
    params.inference_settings.check_sizes(read_image_sizes(table))
    protocol = format_protocol(table, split_id, params.inference_settings, _weights_kind(model))
    predictor = Predictor(
        checkpoint.load(model, best_device(), num_classes=NUM_CLASSES), params.inference_settings
    )
    with ExitStack() as stack:
        photographs, labels, truth = (
            stack.enter_context(Archive(path))
            for path in (data.images, data.labels, data.ground_truth)
        )
        folder = stack.enter_context(replacing_contents(out))
        reader = FrameReader(keys, photographs, labels, truth)
        counts, corrupted = _predict_frames(params, predictor, reader, folder, progress)
        scores = Scores(protocol, keys, counts.confusions)
        metrics = scores.metrics(params.bootstrap, params.seed) | counts.metrics()
        outputs.write_tables(folder, scores, counts, metrics)
        outputs.write_plots(folder, scores, counts, metrics, name=model.name)
        outputs.write_robustness(folder / "robustness", scores, corrupted, metrics, name=model.name)
        # These frames are predicted a second time, so that no pixels are kept in memory.
        selected = select_frames(scores.per_image(), worst=params.worst, typical=params.typical)
        draw_panels(
            folder / "panels",
            selected,
            lambda key: _build_panel(reader.read(key), predictor),
            name=model.name,
            protocol=scores.protocol,
        )
    class_iou = dict(zip(CLASS_NAMES, scores.class_iou(), strict=True))
    return EvaluationResult(metrics, class_iou, scores.protocol, scores.summarize(metrics))


def _weights_kind(model: Path) -> str:
    """Return `ema` or `last`, the name of the weights in the protocol."""
    return "ema" if checkpoint.read_config(model).get("ema_decay") else "last"


def _predict_frames(
    params: Evaluate,
    predictor: Predictor,
    reader: FrameReader,
    folder: Path,
    progress: Callable[[int, int], None],
) -> tuple[DatasetCounts, CorruptedConfusions]:
    """Return the counts of all frames, and the total confusion by corruption and severity."""
    counts: list[FrameCounts] = []
    corrupted: CorruptedConfusions = {}
    predictions = PredictionWriter(folder / "predictions", is_enabled=params.save_predictions)
    for frame in reader.prefetch():
        prediction = predictor.predict(frame.photograph)
        counts.append(count_frame(prediction, frame))
        predictions.add(frame.key, prediction.classes)
        for name in params.corruptions:
            for severity in SEVERITIES:
                confusion = _corrupted_confusion(frame, name, severity, params.seed, predictor)
                corrupted[name, severity] = corrupted.get((name, severity), 0) + confusion
        progress(len(counts), len(reader))
    predictions.close()
    return DatasetCounts.from_frames(counts), corrupted


def _corrupted_confusion(
    frame: Frame, name: CorruptionName, severity: int, seed: int, predictor: Predictor
) -> NDArray[np.int64]:
    """Return the (19, 19) confusion of a frame with a corrupted photograph."""
    photograph = corrupt_image(frame.photograph, name, severity, derive_frame_seed(frame.key, seed))
    predicted = predictor.predict(photograph).classes[None]
    truth = torch.tensor(frame.labels, device=predicted.device)[None]
    counts: NDArray[np.int64] = confusion_matrix(predicted, truth, NUM_CLASSES).cpu().numpy()
    return counts


def _build_panel(frame: Frame, predictor: Predictor) -> FramePanel:
    predicted = predictor.predict_classes(frame.photograph)
    return FramePanel(frame.key, frame.photograph, frame.labels, predicted)
