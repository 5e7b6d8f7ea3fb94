"""The command `train`: trains an arm with resume, progress and tracking in MLflow."""

import hashlib
from functools import partial
from pathlib import Path

from pipeline.cli import progress
from pipeline.dvc.lockfile import output_md5, stage_modules
from pipeline.params import load
from pipeline.params.ablation import arm_name
from pipeline.paths import project_root
from pipeline.stages.train import TrainInputs, train_arm
from pipeline.tracking import client, provenance
from pipeline.tracking.run import TrackedRun, training_run_name
from pipeline.training import fingerprint
from pipeline.training.resume import INPUTS_FILE, ResumeFolder
from segformer import distributed
from segformer.device import best_device

_SECTIONS = ("download", "remap", "frequency", "pack", "pretrained", "train")


def run_training(
    params: Path, *, loss: str, seed: int, inputs: TrainInputs, out: Path, work: Path
) -> None:
    """Train one arm, or resume its training; of several processes the first reports and tracks.

    Args:
        params: the parameter file.
        loss: loss of the arm.
        seed: seed of the arm.
        inputs: packed frames, class frequencies and pretrained weights.
        out: output folder of the model.
        work: folder of resume states. A relative path starts at the project's folder, so that DVC
            experiments, which run in other folders, find it too.
    """
    name = arm_name(loss, seed)
    md5 = output_md5(inputs.pack)
    tags = {"loss": loss, "seed": seed, "data.md5": md5}
    with distributed.process_group(best_device()) as device:  # reports a failure once
        config = load.load_config(params)
        parts = _fingerprint_inputs(config, tags, inputs)
        folder = ResumeFolder(project_root() / work, name, parts)
        start = partial(
            train_arm,
            config.train,
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
                training_run_name(loss, seed),
                load.flatten_config(config, *_SECTIONS),
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
    config: load.Config, tags: dict[str, object], inputs: TrainInputs
) -> dict[str, str]:
    return fingerprint.fingerprint_inputs(
        load.flatten_config(config, "train") | tags,
        code=stage_modules("train"),
        data=inputs.list_files(),
    )


def _log_origin(
    run: TrackedRun, params: Path, folder: ResumeFolder, inputs: TrainInputs, md5: str | None
) -> None:
    """Log what is needed to reproduce the run: data set, tables, source and fingerprint inputs."""
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
