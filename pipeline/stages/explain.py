"""Measure the attention heads of the best arm: portraits, figures and walls of maps."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pipeline.dataset.archive import Archive
from pipeline.evaluation.scores import write_score_table
from pipeline.explain.maps import looked_at_maps
from pipeline.explain.portraits.inputs import InputFrame, read_frame, select_best_arm, select_frames
from pipeline.explain.portraits.lift_scale import format_lift
from pipeline.explain.portraits.measurements import HeadMeasurements, HeadPortraits
from pipeline.explain.portraits.plots import plot_lift, plot_reach
from pipeline.explain.portraits.report import format_report, summarize
from pipeline.explain.portraits.tables import (
    build_class_table,
    build_head_table,
    build_lift_table,
    collect_metrics,
)
from pipeline.explain.scale import fit_scale
from pipeline.explain.wall import Caption, WallStyle, draw_wall
from pipeline.params.explain import Explain
from segformer.atomic import replacing_contents
from segformer.cityscapes import CLASS_NAMES, IGNORE, NUM_CLASSES
from segformer.data.packed_frames import normalize
from segformer.device import best_device
from segformer.explain.attention_maps import AttentionRecord, record_attention
from segformer.inference.settings import InferenceSettings
from segformer.model.segformer import SegFormer
from segformer.weights import checkpoint

_WALL_STYLE = WallStyle(width=1200)


@dataclass(frozen=True)
class ExplainInputs:
    """The files that the stage reads.

    Attributes:
        models: the output folder of `train`, with a folder per arm.
        evaluations: the output folder of `evaluate`, with a folder per arm.
        images: the leftImg8bit zip.
        labels: labels.zip of `remap`.
        frames: frames.csv of `remap`.
    """

    models: Path
    evaluations: Path
    images: Path
    labels: Path
    frames: Path


@dataclass(frozen=True)
class ExplainResult:
    """The arm that was measured, and the main finding in words."""

    arm: str
    sentence: str


def explain_best_arm(
    params: Explain,
    *,
    arms: Sequence[str],
    settings: InferenceSettings,
    inputs: ExplainInputs,
    out: Path,
    progress: Callable[[int, int], None],
) -> ExplainResult:
    """Write the head portraits of the best arm into `out`: tables, figures, report and walls.

    lift.csv has a row per head and class, classes.csv the strongest head of each class, heads.csv
    distance and entropy of each head; lift.png and reach.png show them, explain.md states the
    findings, explain.json has counts and means. `walls` has a wall of maps for each of a few
    frames.

    Args:
        params: the section `explain`.
        arms: the names of the arms to choose from.
        settings: how the arms are evaluated.
        inputs: the files to read.
        out: where to write.
        progress: called with frames done and frames in all.

    Raises:
        ValueError: if an evaluation is missing or of another protocol, the model has other classes
            or no block `params.block`, a picture cannot be read, or no frame has a label.
    """
    arm, protocol = select_best_arm(inputs.evaluations, arms)
    model = checkpoint.load(inputs.models / arm, best_device(), num_classes=NUM_CLASSES)
    _check_block(params, model)
    keys = select_frames(inputs.frames, params.frames)
    with (
        Archive(inputs.images) as photographs,
        Archive(inputs.labels) as label_maps,
        replacing_contents(out) as folder,
    ):

        def read(key: str) -> InputFrame:
            return read_frame(key, photographs, label_maps, settings)

        portraits, query_pixels = _measure_frames(params, model, keys, read, progress)
        walls = _draw_walls(params, model, list(map(read, query_pixels)), folder / "walls")
        _write_portraits(folder, portraits, arm=arm, protocol=protocol)
        report = format_report(
            portraits, arm=arm, protocol=protocol, walls=walls, query=params.query
        )
        (folder / "explain.md").write_text(report, encoding="utf-8")
    return ExplainResult(arm, summarize(portraits, arm))


def _measure_frames(
    params: Explain,
    model: SegFormer,
    keys: Sequence[str],
    read: Callable[[str], InputFrame],
    progress: Callable[[int, int], None],
) -> tuple[HeadPortraits, list[str]]:
    """Return the portraits, and the frames to draw: with the most pixels of the query's class."""
    measurements = HeadMeasurements()
    pixels: dict[str, int] = {}
    for done, key in enumerate(keys):
        progress(done, len(keys))
        frame = read(key)
        if (frame.labels == IGNORE).all():
            continue
        record = _record(model, frame)
        measurements.add(record, torch.from_numpy(frame.labels).long())
        pixels[key] = _count_query_pixels(params, record, frame)
    progress(len(keys), len(keys))
    ranked = sorted((key for key in pixels if pixels[key]), key=lambda key: -pixels[key])
    portraits = measurements.estimate_portraits(resamples=params.bootstrap, seed=params.seed)
    return portraits, ranked[: params.walls]


def _record(model: SegFormer, frame: InputFrame) -> AttentionRecord:
    pixels = torch.tensor(frame.photograph)[None].to(next(model.parameters()).device)
    return record_attention(model, normalize(pixels)[0])


def _count_query_pixels(params: Explain, record: AttentionRecord, frame: InputFrame) -> int:
    """The pixels of the query's class that lie in a key."""
    block = record.block(params.stage)
    rows, columns = (side * block.key_stride for side in block.key_size)
    return int(_query_region(params, frame)[:rows, :columns].sum())


def _query_region(params: Explain, frame: InputFrame) -> NDArray[np.bool_]:
    """(h, w) bool."""
    return np.asarray(frame.labels == CLASS_NAMES.index(params.query_class))


def _check_block(params: Explain, model: SegFormer) -> None:
    variant = model.encoder.variant
    depth = variant.depths[params.stage]
    if params.block >= depth:
        raise ValueError(
            f"explain.block is {params.block}, but stage {params.stage} of {variant.name} has"
            f" blocks 0 to {depth - 1}: choose one of them, or -1 for the last"
        )


def _write_portraits(folder: Path, portraits: HeadPortraits, *, arm: str, protocol: str) -> None:
    facts = {"arm": arm, "protocol": protocol, **collect_metrics(portraits)}
    (folder / "explain.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    write_score_table(folder / "lift.csv", build_lift_table(portraits), protocol)
    write_score_table(folder / "classes.csv", build_class_table(portraits), protocol)
    write_score_table(folder / "heads.csv", build_head_table(portraits), protocol)
    plot_lift(portraits, arm=arm, protocol=protocol, path=folder / "lift.png")
    plot_reach(portraits, arm=arm, protocol=protocol, path=folder / "reach.png")


def _draw_walls(
    params: Explain, model: SegFormer, frames: Sequence[InputFrame], folder: Path
) -> dict[str, str]:
    """Draw a wall per frame into a new folder, all with one scale; return the titles by file."""
    folder.mkdir()
    regions = [_query_region(params, frame) for frame in frames]
    maps = [
        looked_at_maps(
            _record(model, frame),
            torch.from_numpy(region),
            stage=params.stage,
            block=params.block,
        )
        for frame, region in zip(frames, regions, strict=True)
    ]
    if not maps:
        return {}
    scale = fit_scale(np.concatenate([heads.values.ravel() for heads in maps]))
    block = params.block % model.encoder.variant.depths[params.stage]
    title = f"Attention to {params.query_class}, stage {params.stage}, block {block}"
    titles = {}
    for frame, region, heads in zip(frames, regions, maps, strict=True):
        lifts = [format_lift(float(values.mean())) for values in heads.values]
        names = [f"head {head}: lift {lift}" for head, lift in enumerate(lifts)]
        caption = Caption(title, frame.key, ("photograph", *names))
        wall = draw_wall(frame.photograph, heads, scale, caption, mark=region, style=_WALL_STYLE)
        name = f"{Path(frame.key).name}.png"
        Image.fromarray(wall).save(folder / name, optimize=True)
        titles[name] = f"{title}, {frame.key}"
    return titles
