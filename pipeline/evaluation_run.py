"""An evaluation as the command line runs it: with a bar, and told to MLflow."""

from pathlib import Path

import typer

from pipeline import config, official_check, progress, provenance, repro, tracking
from pipeline.stages import evaluate
from pipeline.stages.train import read_facts
from segformer.serving import example


def run(params: Path, *, model: Path, data: evaluate.Data, out: Path) -> None:
    """Score a trained model, and add what was found to the run that trained it.

    Raises:
        ValueError: for impossible parameters, and whatever the stage refuses.
    """
    settings = config.load(params)
    with progress.showing(f"evaluate {model.name}", "frames") as advance:
        result = evaluate.run(
            settings.evaluate,
            model=model,
            data=data,
            split_rule=settings.remap.rule,
            out=out,
            progress=advance,
        )
    typer.echo(result.sentence)
    facts = read_facts(model)
    tags = {"loss": facts["loss"], "seed": facts["seed"], "data.md5": facts["data_md5"]}
    tags |= config.flat(settings, "evaluate")
    tags |= provenance.sums(model / "model.safetensors", data.labels)
    size = settings.evaluate.size
    with tracking.resumed_run(facts, name=model.name, tags=tags) as run:
        run.log_evaluation(result.metrics, result.class_iou, result.protocol)
        for piece in told(out):
            under = f"evaluate/{piece.name}" if piece.is_dir() else "evaluate"
            run.log_artifacts(piece, under=under)
        run.log_model(model, example=example(size), input_size=size)


def told(out: Path) -> list[Path]:
    """Of an evaluation's folder what MLflow is told: no predictions, no files of DVC's own."""
    kept_elsewhere = ("predictions", ".gitignore")  # hundreds of files, which DVC keeps
    return [piece for piece in sorted(out.iterdir()) if piece.name not in kept_elsewhere]


def check_official(result: Path) -> None:
    """Compare a result with the official script's on the same predictions.

    Raises:
        ValueError: as `official_check.run` does.
    """
    ground_truth = repro.output("gtFine_trainvaltest.zip")
    typer.echo(official_check.run(result, ground_truth=ground_truth, say=typer.echo))
