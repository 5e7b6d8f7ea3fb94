"""One training as DVC calls it: on its device, in its folder, remembered in MLflow, shown."""

import hashlib
from functools import partial
from pathlib import Path

from pipeline import config, ingredients, progress, provenance, sources, tracking
from pipeline.lock import stage_modules, output_md5
from pipeline.root import project_root
from pipeline.stages import train
from pipeline.training_folder import INPUTS_FILE, ResumeFolder
from pipeline.training_parts import TrainInputs
from segformer import processes
from segformer.acceleration import best_device

_SECTIONS = ("download", "remap", "frequency", "pack", "pretrained", "train")


def run_training(params: Path, *, loss: str, seed: int, inputs: TrainInputs, out: Path, work: Path) -> None:
    """Train one arm, or go on with it; of many processes the first one tells of it.

    Args:
        params: the file with all parameters.
        loss: of the arm.
        seed: of the arm.
        inputs: what is read.
        out: where the model is written.
        work: where trainings in progress are; relative paths are meant from the project's folder,
            so that experiments which DVC runs elsewhere find them too.
    """
    name = f"{loss}-{seed}"
    md5 = output_md5(inputs.pack)
    tags = {"loss": loss, "seed": seed, "data.md5": md5}
    with processes.process_group(best_device()) as device:  # whatever fails in there is told once
        settings = config.load_config(params)
        parts = _fingerprint_inputs(settings, tags, inputs)
        folder = ResumeFolder(project_root() / work, name, parts)
        start = partial(
            train.train_arm,
            settings.train,
            loss=loss,
            seed=seed,
            device=device,
            inputs=inputs,
            out=out,
            resume_folder=folder,
        )
        if not processes.is_main():
            start(report=lambda _: None, facts={})
            return
        tags |= {"fingerprint": folder.fingerprint} | ingredients.describe_machine()
        tags |= provenance.md5_overrides(*inputs.list_files())
        with (
            folder.lock(),
            tracking.start_training_run(
                name, config.flatten_config(settings, *_SECTIONS), tags, resume_key=folder.read_run_key()
            ) as run,
            progress.inference_settings(f"train {name}", "steps") as advance,
        ):
            folder.record_run(run.key)
            _log_origin(run, params, folder, inputs, md5)
            start(
                report=progress.combine_reporters(run.report, progress.make_training_reporter(advance)),
                facts={
                    "mlflow_run_id": run.id,
                    "run_key": run.key,
                    "experiment": provenance.dvc_experiment(),
                    "data_md5": md5,
                },
            )
            _log_outcome(run, out)
        folder.remove()


def _fingerprint_inputs(
    settings: config.Config, tags: dict[str, object], inputs: TrainInputs
) -> dict[str, str]:
    return ingredients.fingerprint_inputs(
        config.flatten_config(settings, "train") | tags, code=stage_modules("train"), data=inputs.list_files()
    )


def _log_origin(
    run: tracking.TrackedRun, params: Path, folder: ResumeFolder, inputs: TrainInputs, md5: str | None
) -> None:
    """What it takes to make the run again, and to see what it was made of."""
    run.log_dataset(inputs.pack, md5)
    for table in inputs.list_artifacts():
        run.log_artifacts(table, artifact_path="data")
    with sources.source_snapshot(params) as files:
        run.log_artifacts(files, artifact_path="source")
    run.log_artifacts(folder.path / INPUTS_FILE, artifact_path="source")


def _log_outcome(run: tracking.TrackedRun, out: Path) -> None:
    run.log_artifacts(out / "history.csv", artifact_path="train")
    run.log_artifacts(out / "config.json", artifact_path="train")
    with (out / "model.safetensors").open("rb") as file:
        run.log_tags({provenance.MODEL_SHA256: hashlib.file_digest(file, "sha256").hexdigest()})
