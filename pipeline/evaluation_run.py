"""An evaluation as the command line runs it: with a bar, and told to MLflow."""

from pathlib import Path

import typer

from pipeline import config, official_check, progress, provenance, repro, tracking
from pipeline.stages import evaluate
from pipeline.stages.train import read_run_facts
from segformer.serving import make_example


def run_evaluation(params: Path, *, model: Path, data: evaluate.EvaluationData, out: Path) -> None:
    """Score a trained model, and add what was found to the run that trained it.

    Raises:
        ValueError: for impossible parameters, and whatever the stage refuses.
    """
    settings = config.load_config(params)
    with progress.inference_settings(f"evaluate {model.name}", "frames") as advance:
        result = evaluate.evaluate_model(
            settings.evaluate,
            model=model,
            data=data,
            split_id=settings.remap.split_id,
            out=out,
            progress=advance,
        )
    typer.echo(result.sentence)
    facts = read_run_facts(model)
    tags = {"loss": facts["loss"], "seed": facts["seed"], "data.md5": facts["data_md5"]}
    tags |= config.flatten_config(settings, "evaluate")
    tags |= provenance.md5_overrides(model / "model.safetensors", data.labels)
    size = settings.evaluate.size
    with tracking.resume_run(facts, name=model.name, tags=tags) as run:
        run.log_evaluation(result.metrics, result.class_iou, result.protocol)
        for piece in list_artifacts(out):
            under = f"evaluate/{piece.name}" if piece.is_dir() else "evaluate"
            run.log_artifacts(piece, artifact_path=under)
        run.log_model(model, example=make_example(size), input_size=size)


def list_artifacts(out: Path) -> list[Path]:
    """Of an evaluation's folder what MLflow is told: no predictions, no files of DVC's own."""
    kept_elsewhere = ("predictions", ".gitignore")  # hundreds of files, which DVC keeps
    return [piece for piece in sorted(out.iterdir()) if piece.name not in kept_elsewhere]


def check_official(result: Path) -> None:
    """Compare a result with the official script's on the same predictions.

    Raises:
        ValueError: as `official_check.run` does.
    """
    ground_truth = repro.find_output("gtFine_trainvaltest.zip")
    typer.echo(official_check.compare_with_script(result, ground_truth=ground_truth, notify=typer.echo))
