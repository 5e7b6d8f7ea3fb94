"""One training as DVC calls it: on its device, in its folder, remembered in MLflow, shown."""

import hashlib
from functools import partial
from pathlib import Path

from pipeline.cli import progress
from pipeline.dvc.lockfile import output_md5, stage_modules
from pipeline.params import load
from pipeline.paths import project_root
from pipeline.stages import train
from pipeline.stages.train import TrainInputs
from pipeline.tracking import client, provenance
from pipeline.tracking.run import TrackedRun
from pipeline.training import fingerprint
from pipeline.training.resume import INPUTS_FILE, ResumeFolder
from segformer import distributed
from segformer.device import best_device

_SECTIONS = ("download", "remap", "frequency", "pack", "pretrained", "train")


def run_training(
    params: Path, *, loss: str, seed: int, inputs: TrainInputs, out: Path, work: Path
) -> None:
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
    with distributed.process_group(best_device()) as device:  # whatever fails in there is told once
        settings = load.load_config(params)
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
        if not distributed.is_main():
            start(report=lambda _: None, facts={})
            return
        tags |= {"fingerprint": folder.fingerprint} | fingerprint.describe_machine()
        tags |= provenance.dvc_md5_tags(*inputs.list_files())
        with (
            folder.lock(),
            client.start_training_run(
                name,
                load.flatten_config(settings, *_SECTIONS),
                tags,
                resume_key=folder.read_run_key(),
            ) as run,
            progress.show_progress(f"train {name}", "steps") as advance,
        ):
            folder.record_run(run.key)
            _log_origin(run, params, folder, inputs, md5)
            start(
                report=progress.combine_reporters(
                    run.report, progress.make_training_reporter(advance)
                ),
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
    settings: load.Config, tags: dict[str, object], inputs: TrainInputs
) -> dict[str, str]:
    return fingerprint.fingerprint_inputs(
        load.flatten_config(settings, "train") | tags,
        code=stage_modules("train"),
        data=inputs.list_files(),
    )


def _log_origin(
    run: TrackedRun, params: Path, folder: ResumeFolder, inputs: TrainInputs, md5: str | None
) -> None:
    """What it takes to make the run again, and to see what it was made of."""
    run.log_dataset(inputs.pack, md5)
    for table in inputs.list_artifacts():
        run.log_artifacts(table, artifact_path="data")
    with provenance.source_snapshot(params) as files:
        run.log_artifacts(files, artifact_path="source")
    run.log_artifacts(folder.path / INPUTS_FILE, artifact_path="source")


def _log_outcome(run: TrackedRun, out: Path) -> None:
    run.log_artifacts(out / "history.csv", artifact_path="train")
    run.log_artifacts(out / "config.json", artifact_path="train")
    with (out / "model.safetensors").open("rb") as file:
        run.log_tags({provenance.MODEL_SHA256: hashlib.file_digest(file, "sha256").hexdigest()})
