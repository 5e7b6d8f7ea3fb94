"""The command `evaluate`: scores a model with progress and tracking in MLflow."""

from pathlib import Path

import typer

from pipeline import dvc
from pipeline.cli import progress
from pipeline.dataset.splits import split_id
from pipeline.official import script
from pipeline.params import load
from pipeline.run_record import read_run_facts
from pipeline.stages.evaluate import EvaluationData, evaluate_model
from pipeline.tracking import client, provenance
from pipeline.tracking.run import training_run_name
from segformer.segmenter import make_example


def run_evaluation(params: Path, *, model: Path, data: EvaluationData, out: Path) -> None:
    """Score a trained model, and log the results in the run that trained it.

    Raises:
        ValueError: if the parameters are invalid, or the stage rejects its inputs.
    """
    config = load.load_config(params)
    remap = config.remap
    with progress.show_progress(f"evaluate {model.name}", "frames") as advance:
        result = evaluate_model(
            config.evaluate,
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
    tags |= load.flatten_config(config, "evaluate")
    tags |= provenance.dvc_md5_tags(model / "model.safetensors", data.labels)
    inference = config.evaluate.inference_settings
    with client.resume_run(
        facts, name=training_run_name(facts["loss"], facts["seed"]), tags=tags
    ) as run:
        run.log_evaluation(result.metrics, result.class_iou, result.protocol)
        for path in list_artifacts(out):
            artifact_path = f"evaluate/{path.name}" if path.is_dir() else "evaluate"
            run.log_artifacts(path, artifact_path=artifact_path)
        run.log_model(model, example=make_example(inference.size), settings=inference)


def list_artifacts(out: Path) -> list[Path]:
    """Return the files and folders of an evaluation to log in MLflow.

    Predictions, hundreds of files that DVC tracks, and DVC's .gitignore are left out.
    """
    excluded = ("predictions", ".gitignore")
    return [path for path in sorted(out.iterdir()) if path.name not in excluded]


def check_official(result: Path) -> None:
    """Compare the scores of a result folder with the official script's on the same predictions.

    Raises:
        ValueError: if the scores differ, or the official script cannot run.
    """
    ground_truth = dvc.find_output("gtFine_trainvaltest.zip")
    typer.echo(script.compare_with_script(result, ground_truth=ground_truth, notify=typer.echo))
