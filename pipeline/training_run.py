"""One training as DVC calls it: on its device, in its folder, remembered in MLflow, shown."""

import hashlib
from functools import partial
from pathlib import Path

from pipeline import config, ingredients, progress, provenance, sources, tracking
from pipeline.lock import modules, output_md5
from pipeline.root import project_root
from pipeline.stages import train
from pipeline.training_folder import INGREDIENTS, TrainingFolder
from pipeline.training_parts import Inputs
from segformer import processes
from segformer.acceleration import best_device

_SECTIONS = ("download", "remap", "frequency", "pack", "pretrained", "train")


def run(params: Path, *, loss: str, seed: int, inputs: Inputs, out: Path, work: Path) -> None:
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
    with processes.starting(best_device()) as device:  # whatever fails in there is told once
        settings = config.load(params)
        parts = _ingredients(settings, tags, inputs)
        folder = TrainingFolder(project_root() / work, name, parts)
        start = partial(
            train.run,
            settings.train,
            loss=loss,
            seed=seed,
            device=device,
            inputs=inputs,
            out=out,
            folder=folder,
        )
        if not processes.is_first():
            start(report=lambda _: None, facts={})
            return
        tags |= {"fingerprint": folder.fingerprint} | ingredients.machine()
        tags |= provenance.sums(*inputs.files())
        with (
            folder.opened(),
            tracking.training_run(
                name, config.flat(settings, *_SECTIONS), tags, begun_as=folder.run_key()
            ) as run,
            progress.showing(f"train {name}", "steps") as advance,
        ):
            folder.note_run(run.key)
            _tell_origin(run, params, folder, inputs, md5)
            start(
                report=progress.both(run.report, progress.of_training(advance)),
                facts={
                    "mlflow_run_id": run.id,
                    "run_key": run.key,
                    "experiment": provenance.experiment(),
                    "data_md5": md5,
                },
            )
            _tell_outcome(run, out)
        folder.remove()


def _ingredients(
    settings: config.Config, tags: dict[str, object], inputs: Inputs
) -> dict[str, str]:
    return ingredients.of_training(
        config.flat(settings, "train") | tags, code=modules("train"), data=inputs.files()
    )


def _tell_origin(
    run: tracking.Run, params: Path, folder: TrainingFolder, inputs: Inputs, md5: str | None
) -> None:
    """What it takes to make the run again, and to see what it was made of."""
    run.log_dataset(inputs.pack, md5)
    for table in inputs.shown():
        run.log_artifacts(table, under="data")
    with sources.collected(params) as files:
        run.log_artifacts(files, under="source")
    run.log_artifacts(folder.path / INGREDIENTS, under="source")


def _tell_outcome(run: tracking.Run, out: Path) -> None:
    run.log_artifacts(out / "history.csv", under="train")
    run.log_artifacts(out / "config.json", under="train")
    with (out / "model.safetensors").open("rb") as file:
        run.log_tags({provenance.MODEL_SUM: hashlib.file_digest(file, "sha256").hexdigest()})
