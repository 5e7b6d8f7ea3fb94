"""The commands of the stages, which dvc.yaml calls: each reads its section of the parameters."""

import sys
from pathlib import Path
from typing import Annotated

import typer

# Commands import what they need, so that --help stays fast.

app = typer.Typer()

STAGES = "Stages (dvc repro runs them)"
PARAMS = Path("params.yaml")


def path_option(flag: str, help: str) -> typer.models.OptionInfo:
    """Return the option of a path, to be used in an annotation."""
    option: typer.models.OptionInfo = typer.Option(flag, help=help)
    return option


Params = Annotated[Path, path_option("--params", "Parameter file.")]
Out = Annotated[Path, path_option("--out", "Output folder.")]
Images = Annotated[Path, path_option("--images", "Zip of the images, leftImg8bit.")]
GroundTruth = Annotated[Path, path_option("--ground-truth", "Zip of the label maps, gtFine.")]
Labels = Annotated[Path, path_option("--labels", "Zip of the remapped labels.")]
Frames = Annotated[Path, path_option("--frames", "Table of the frames, frames.csv.")]
Extra = Annotated[Path, path_option("--extra", "Folder of the zips of train_extra.")]
Pack = Annotated[Path, path_option("--pack", "Folder of the packed frames.")]
Weights = Annotated[Path, path_option("--weights", "Folder of the pretrained weights.")]


@app.command(rich_help_panel=STAGES)
def download(out: Out, params: Params = PARAMS) -> None:
    """Get the raw data: generate it, download it from the Cityscapes site, or copy a folder.

    After an interruption the same command resumes the download.

    Example: segformer download --out data/download
    """
    from pipeline.cli import progress
    from pipeline.download import credentials
    from pipeline.params import load
    from pipeline.stages.download import DownloadServices, download_data, needs_account

    section = load.load_config(params).download
    services = DownloadServices()
    if needs_account(section, out=out):
        account = credentials.find_account()  # asks before the progress bar is drawn
        services = DownloadServices(find_account=lambda: account)
    with progress.show_progress("download", section.progress_unit) as advance:
        download_data(
            section,
            out=out,
            progress=advance,
            notify=_print_above_progress_bar,
            services=services,
        )


@app.command(rich_help_panel=STAGES)
def remap(
    images: Images, ground_truth: GroundTruth, extra: Extra, out: Out, params: Params = PARAMS
) -> None:
    """Pair images with labels, and map label ids to the 19 train ids.

    Example: segformer remap --images left.zip --ground-truth gt.zip
    --extra data/download/train_extra --out data/remap
    """
    from pipeline.cli import progress
    from pipeline.params import load
    from pipeline.stages.remap import remap_labels

    section = load.load_config(params).remap
    with progress.show_progress("remap", "frames") as advance:
        summary = remap_labels(
            section,
            images=images,
            ground_truth=ground_truth,
            extra=extra,
            out=out,
            progress=advance,
        )
    typer.echo(summary)


@app.command(rich_help_panel=STAGES)
def frequency(
    frames: Frames,
    pixel_counts: Annotated[
        Path, path_option("--pixel-counts", "Table of pixels per frame and label id.")
    ],
    out: Out,
    params: Params = PARAMS,
) -> None:
    """Count the pixels of each class; derive class weights and sampling probabilities.

    Example: segformer frequency --frames data/remap/frames.csv
    --pixel-counts data/remap/pixel_counts.csv --out data/frequency
    """
    from pipeline.params import load
    from pipeline.stages.frequency import count_classes

    section = load.load_config(params).frequency
    for message in count_classes(section, frames=frames, pixel_counts=pixel_counts, out=out):
        typer.echo(message)


@app.command(rich_help_panel=STAGES)
def pack(
    images: Images, labels: Labels, frames: Frames, extra: Extra, out: Out, params: Params = PARAMS
) -> None:
    """Decode and resize every frame once, into NumPy arrays.

    Example: segformer pack --images left.zip --labels data/remap/labels.zip
    --frames data/remap/frames.csv --extra data/download/train_extra --out data/pack
    """
    from pipeline.cli import progress
    from pipeline.params import load
    from pipeline.stages.pack import pack_frames

    section = load.load_config(params).pack
    with progress.show_progress("pack", "frames") as advance:
        pack_frames(
            section,
            images=images,
            labels=labels,
            frames=frames,
            extra=extra,
            out=out,
            progress=advance,
        )


@app.command(rich_help_panel=STAGES)
def pretrained(out: Out, params: Params = PARAMS) -> None:
    """Get the pretrained weights of the encoder, if the parameters name any.

    Example: segformer pretrained --out data/pretrained
    """
    from pipeline.params import load
    from pipeline.stages.pretrained import fetch_pretrained

    typer.echo(fetch_pretrained(load.load_config(params).pretrained, out=out))


@app.command(rich_help_panel=STAGES)
def train(
    pack: Pack,
    frequency: Annotated[Path, path_option("--frequency", "Folder of the class frequency tables.")],
    weights: Weights,
    out: Out,
    work: Annotated[Path, path_option("--work", "Folder of the checkpoints to resume from.")],
    loss: Annotated[str, typer.Option("--loss", help="Loss, one of ablation.losses.")],
    seed: Annotated[
        int, typer.Option("--seed", help="Seed of weights, frame order and augmentation.")
    ],
    params: Params = PARAMS,
) -> None:
    """Train one arm of the ablation, a loss with a seed.

    After an interruption the same command resumes the training.

    Example: segformer train --pack data/pack --frequency data/frequency
    --weights data/pretrained --out data/train/ce-0 --work .work/checkpoints --loss ce --seed 0
    """
    from pipeline.cli.train import run_training
    from pipeline.stages.train import TrainInputs

    run_training(
        params,
        loss=loss,
        seed=seed,
        inputs=TrainInputs(pack=pack, frequency=frequency, weights=weights),
        out=out,
        work=work,
    )


def _run_official_check(result: Path | None) -> None:
    """Run the option `--check-official`, which is parsed before the required options."""
    if result is not None:
        from pipeline.cli.evaluate import check_official

        check_official(result)
        raise typer.Exit


@app.command(rich_help_panel=STAGES)
def evaluate(
    model: Annotated[Path, path_option("--model", "Folder of the trained model.")],
    images: Images,
    ground_truth: GroundTruth,
    labels: Labels,
    frames: Frames,
    out: Out,
    params: Params = PARAMS,
    check_official: Annotated[  # noqa: ARG001  the callback handles it
        Path | None,
        typer.Option(
            "--check-official",
            help="Instead of an evaluation: score the predictions in this result folder with the"
            " official script, and compare the scores. Takes no other options.",
            callback=_run_official_check,
            is_eager=True,
        ),
    ] = None,
) -> None:
    """Score a trained model on the validation frames.

    Example: segformer evaluate --model data/train/ce-0 --images left.zip
    --ground-truth gt.zip --labels data/remap/labels.zip --frames data/remap/frames.csv
    --out data/evaluate/ce-0

    Example: segformer evaluate --check-official data/evaluate/ce-0
    """
    from pipeline.cli.evaluate import run_evaluation
    from pipeline.stages.evaluate import EvaluationData

    data = EvaluationData(images, ground_truth, labels, frames)
    run_evaluation(params, model=model, data=data, out=out)


@app.command(rich_help_panel=STAGES)
def gradients(
    models: Annotated[Path, path_option("--models", "Folder of all trained arms.")],
    pack: Pack,
    weights: Weights,
    class_weights: Annotated[Path, path_option("--class-weights", "Table of the class weights.")],
    out: Out,
    params: Params = PARAMS,
) -> None:
    """Measure each class's share of the gradient, layer by layer, for all losses at equal weights.

    Example: segformer gradients --models data/train --pack data/pack
    --weights data/pretrained --class-weights data/frequency/class_weights.csv --out data/gradients
    """
    from pipeline.cli import progress
    from pipeline.params import load
    from pipeline.stages.gradients import ArmSelection, GradientInputs, measure_gradients
    from segformer.device import best_device

    config = load.load_config(params)
    arms = ArmSelection(config.ablation.losses, config.ablation.seeds, config.train.class_weights)
    with progress.show_progress("gradients", "models") as advance:
        measure_gradients(
            config.gradients,
            arms=arms,
            inputs=GradientInputs(models, pack, weights, class_weights),
            out=out,
            device=best_device(),
            progress=advance,
        )


@app.command(rich_help_panel=STAGES)
def ablation(
    evaluations: Annotated[Path, path_option("--evaluations", "Folder of all arms' evaluations.")],
    histories: Annotated[Path, path_option("--histories", "Folder of all trained arms.")],
    gradients: Annotated[Path, path_option("--gradients", "Folder of the gradient tables.")],
    frequency: Annotated[Path, path_option("--frequency", "Table of the class frequencies.")],
    out: Out,
    params: Params = PARAMS,
) -> None:
    """Compare the losses at equal budget and seeds: tables, plots and a verdict with intervals.

    Example: segformer ablation --evaluations data/evaluate --histories data/train
    --gradients data/gradients --frequency data/frequency/class_frequency.csv --out data/ablation
    """
    from pipeline.params import load
    from pipeline.run_record import read_run_facts
    from pipeline.stages.ablation import AblationInputs, compare_arms
    from pipeline.tracking import client
    from pipeline.tracking.run import ABLATION_RUN_NAME

    section = load.load_config(params).ablation
    inputs = AblationInputs(evaluations, histories, gradients, frequency)
    result = compare_arms(section, inputs=inputs, out=out)
    typer.echo(result.sentence)
    arms = [read_run_facts(histories / arm) for arm in section.arm_names()]
    tags = {"protocol": result.protocol, "verdict": result.sentence}
    client.log_ablation_run(ABLATION_RUN_NAME, arms, result.metrics, out, tags)


def _print_above_progress_bar(text: str) -> None:
    # rich redirects sys.stdout while it draws; typer.echo would write into the bar.
    sys.stdout.write(f"{text}\n")
