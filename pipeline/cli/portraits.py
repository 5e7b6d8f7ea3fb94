"""The stage `explain`: measures the heads of the best arm with progress and tracking in MLflow."""

from pathlib import Path

import typer

from pipeline.cli import progress
from pipeline.params import load
from pipeline.run_record import read_run_facts
from pipeline.stages.explain import ExplainInputs, explain_best_arm
from pipeline.tracking import client
from pipeline.tracking.run import training_run_name


def run_portraits(params: Path, *, inputs: ExplainInputs, out: Path) -> None:
    """Measure the attention heads of the best arm, and log the results in the run that trained it.

    Raises:
        ValueError: if the parameters are invalid, or the stage rejects its inputs.
    """
    config = load.load_config(params)
    with progress.show_progress("explain", "frames") as advance:
        result = explain_best_arm(
            config.explain,
            arms=config.ablation.arm_names(),
            settings=config.evaluate.inference_settings,
            inputs=inputs,
            out=out,
            progress=advance,
        )
    typer.echo(result.sentence)
    facts = read_run_facts(inputs.models / result.arm)
    name = training_run_name(facts["loss"], facts["seed"])
    tags = {"loss": facts["loss"], "seed": facts["seed"], "data.md5": facts["data_md5"]}
    with client.resume_run(facts, name=name, tags=tags) as run:
        for path in list_artifacts(out):
            run.log_artifacts(
                path, artifact_path=f"explain/{path.name}" if path.is_dir() else "explain"
            )


def list_artifacts(out: Path) -> list[Path]:
    """Return the files and folders of the stage to log in MLflow, without DVC's .gitignore."""
    return [path for path in sorted(out.iterdir()) if path.name != ".gitignore"]
