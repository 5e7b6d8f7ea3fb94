"""An evaluation as the command line runs it: with a bar, and told to MLflow."""

from pathlib import Path

import typer

from pipeline import dvc
from pipeline.cli import progress
from pipeline.dataset.splits import split_id
from pipeline.official import script
from pipeline.params import load
from pipeline.run_record import read_run_facts
from pipeline.stages import evaluate
from pipeline.tracking import client, provenance
from segformer.segmenter import make_example


def run_evaluation(params: Path, *, model: Path, data: evaluate.EvaluationData, out: Path) -> None:
    """Score a trained model, and add what was found to the run that trained it.

    Raises:
        ValueError: for impossible parameters, and whatever the stage refuses.
    """
    settings = load.load_config(params)
    remap = settings.remap
    with progress.show_progress(f"evaluate {model.name}", "frames") as advance:
        result = evaluate.evaluate_model(
            settings.evaluate,
            model=model,
            data=data,
            split_id=split_id(
                remap.split, remap.held_out, remap.seed, train_extra=remap.train_extra
            ),
            out=out,
            progress=advance,
        )
    typer.echo(result.sentence)
    facts = read_run_facts(model)
    tags = {"loss": facts["loss"], "seed": facts["seed"], "data.md5": facts["data_md5"]}
    tags |= load.flatten_config(settings, "evaluate")
    tags |= provenance.dvc_md5_tags(model / "model.safetensors", data.labels)
    inference = settings.evaluate.inference_settings
    with client.resume_run(facts, name=model.name, tags=tags) as run:
        run.log_evaluation(result.metrics, result.class_iou, result.protocol)
        for piece in list_artifacts(out):
            under = f"evaluate/{piece.name}" if piece.is_dir() else "evaluate"
            run.log_artifacts(piece, artifact_path=under)
        run.log_model(model, example=make_example(inference.size), settings=inference)


def list_artifacts(out: Path) -> list[Path]:
    """Of an evaluation's folder what MLflow is told: no predictions, no files of DVC's own."""
    kept_elsewhere = ("predictions", ".gitignore")  # hundreds of files, which DVC keeps
    return [piece for piece in sorted(out.iterdir()) if piece.name not in kept_elsewhere]


def check_official(result: Path) -> None:
    """Compare a result with the official script's on the same predictions.

    Raises:
        ValueError: as `official_check.run` does.
    """
    ground_truth = dvc.find_output("gtFine_trainvaltest.zip")
    typer.echo(script.compare_with_script(result, ground_truth=ground_truth, notify=typer.echo))
