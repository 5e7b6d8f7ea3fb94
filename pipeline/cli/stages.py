"""The sub-commands that dvc.yaml calls: each reads its section and hands it on to its stage."""

import sys
from pathlib import Path
from typing import Annotated

import typer

# Nothing heavy up here: --help answers in a moment, each command imports what it needs.

app = typer.Typer()

STAGES = "Stages (dvc repro calls them)"

Params = Annotated[Path, typer.Option("--params", help="The parameters.")]
Out = Annotated[Path, typer.Option("--out", help="The folder to write below.")]
PARAMS = Path("params.yaml")


def _print_above_progress_bar(text: str) -> None:
    # rich watches sys.stdout while it draws; typer.echo would write past it, into the bar.
    sys.stdout.write(f"{text}\n")


def path_option(flag: str, help: str) -> typer.models.OptionInfo:
    """Give the option of a path, to be written in an annotation."""
    option: typer.models.OptionInfo = typer.Option(flag, help=help)
    return option


Images = Annotated[Path, path_option("--images", "The zip with the photographs.")]
GroundTruth = Annotated[
    Path, path_option("--ground-truth", "The zip with the official label maps.")
]
Labels = Annotated[Path, path_option("--labels", "The zip with the remapped labels.")]
Frames = Annotated[Path, path_option("--frames", "The table of frames.")]
Extra = Annotated[Path, path_option("--extra", "The folder with the zips of train_extra.")]


@app.command(rich_help_panel=STAGES)
def download(out: Out, params: Params = PARAMS) -> None:
    """Bring the raw data: draw it, fetch it from the Cityscapes site, or take it from a folder.

    What is interrupted goes on where it was when the same command is given again.

    Example: python -m pipeline download --out data/download
    """
    from pipeline.cli import progress
    from pipeline.download import credentials
    from pipeline.params import load
    from pipeline.stages import download

    section = load.load_config(params).download
    means = download.DownloadServices()
    if download.needs_account(section, out=out):
        account = credentials.find_account()  # a question would not go with the bar that follows
        means = download.DownloadServices(find_account=lambda: account)
    with progress.show_progress("download", section.progress_unit) as advance:
        download.download_data(
            section, out=out, progress=advance, notify=_print_above_progress_bar, services=means
        )


@app.command(rich_help_panel=STAGES)
def remap(
    images: Images, ground_truth: GroundTruth, extra: Extra, out: Out, params: Params = PARAMS
) -> None:
    """Pair photographs and labels, and turn label ids into the 19 train ids.

    Example: python -m pipeline remap --images left.zip --ground-truth gt.zip
    --extra data/download/train_extra --out data/remap
    """
    from pipeline.cli import progress
    from pipeline.params import load
    from pipeline.stages import remap

    section = load.load_config(params).remap
    with progress.show_progress("remap", "frames") as advance:
        told = remap.remap_labels(
            section,
            images=images,
            ground_truth=ground_truth,
            extra=extra,
            out=out,
            progress=advance,
        )
    typer.echo(told)


@app.command(rich_help_panel=STAGES)
def frequency(
    frames: Frames,
    pixel_counts: Annotated[Path, path_option("--pixel-counts", "Pixels per frame and label id.")],
    out: Out,
    params: Params = PARAMS,
) -> None:
    """Count how often each class occurs, and derive weights and sampling from it.

    Example: python -m pipeline frequency --frames data/remap/frames.csv
    --pixel-counts data/remap/pixel_counts.csv --out data/frequency
    """
    from pipeline.params import load
    from pipeline.stages import frequency

    section = load.load_config(params).frequency
    for sentence in frequency.count_classes(
        section, frames=frames, pixel_counts=pixel_counts, out=out
    ):
        typer.echo(sentence)


@app.command(rich_help_panel=STAGES)
def pack(
    images: Images, labels: Labels, frames: Frames, extra: Extra, out: Out, params: Params = PARAMS
) -> None:
    """Decode and resize every frame once, into arrays.

    Example: python -m pipeline pack --images left.zip --labels data/remap/labels.zip
    --frames data/remap/frames.csv --extra data/download/train_extra --out data/pack
    """
    from pipeline.cli import progress
    from pipeline.params import load
    from pipeline.stages import pack

    section = load.load_config(params).pack
    with progress.show_progress("pack", "frames") as advance:
        pack.pack_frames(
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
    """Bring the encoder's starting weights, or none.

    Example: python -m pipeline pretrained --out data/pretrained
    """
    from pipeline.params import load
    from pipeline.stages import pretrained

    typer.echo(pretrained.fetch_pretrained(load.load_config(params).pretrained, out=out))


@app.command(rich_help_panel=STAGES)
def train(
    pack: Annotated[Path, path_option("--pack", "The packed frames.")],
    frequency: Annotated[Path, path_option("--frequency", "The tables of class frequencies.")],
    weights: Annotated[Path, path_option("--weights", "The folder with the starting weights.")],
    out: Out,
    work: Annotated[Path, path_option("--work", "The folder of trainings in progress.")],
    loss: Annotated[str, typer.Option("--loss", help="One of those that params.yaml lists.")],
    seed: Annotated[int, typer.Option("--seed", help="Of weights, order and augmentation.")],
    params: Params = PARAMS,
) -> None:
    """Train one arm of the ablation; what was interrupted goes on where it was.

    Example: python -m pipeline train --pack data/pack --frequency data/frequency
    --weights data/pretrained --out data/train/ce-0 --work .work/checkpoints --loss ce --seed 0
    """
    from pipeline.cli import train as train_module
    from pipeline.stages.train import TrainInputs

    train_module.run_training(
        params,
        loss=loss,
        seed=seed,
        inputs=TrainInputs(pack=pack, frequency=frequency, weights=weights),
        out=out,
        work=work,
    )


def _check_official_callback(result: Path | None) -> None:
    """Answer the option `--check-official`, which needs none of the others."""
    if result is not None:
        from pipeline.cli import evaluate as evaluate_module

        evaluate_module.check_official(result)
        raise typer.Exit


@app.command(rich_help_panel=STAGES)
def evaluate(
    model: Annotated[Path, path_option("--model", "The folder of the trained model.")],
    images: Images,
    ground_truth: GroundTruth,
    labels: Labels,
    frames: Frames,
    out: Out,
    params: Params = PARAMS,
    check_official: Annotated[
        Path | None,
        typer.Option(
            "--check-official",
            help="Instead: score the predictions kept in this result by the official script, and"
            " say whether it agrees.",
            callback=_check_official_callback,
            is_eager=True,
        ),
    ] = None,
) -> None:
    """Score a trained model on the validation frames.

    Example: python -m pipeline evaluate --model data/train/ce-0 --images left.zip
    --ground-truth gt.zip --labels data/remap/labels.zip --frames data/remap/frames.csv
    --out data/evaluate/ce-0

    Example: python -m pipeline evaluate --check-official data/evaluate/ce-0
    """
    from pipeline.cli import evaluate as evaluate_module
    from pipeline.stages.evaluate import EvaluationData

    data = EvaluationData(images, ground_truth, labels, frames)
    evaluate_module.run_evaluation(params, model=model, data=data, out=out)


# Nothing heavy up here: --help answers in a moment, each command imports what it needs.

ablation_app = typer.Typer()

Models = Annotated[Path, path_option("--models", "The folder with every arm's training.")]


@ablation_app.command(rich_help_panel=STAGES)
def gradients(
    models: Models,
    pack: Annotated[Path, path_option("--pack", "The packed frames.")],
    weights: Annotated[Path, path_option("--weights", "The folder with the starting weights.")],
    class_weights: Annotated[Path, path_option("--class-weights", "The table of class weights.")],
    out: Out,
    params: Params = PARAMS,
) -> None:
    """Measure how hard each class pulls at each layer, for every loss at the same weights.

    Example: python -m pipeline gradients --models data/train --pack data/pack
    --weights data/pretrained --class-weights data/frequency/class_weights.csv --out data/gradients
    """
    from pipeline.cli import progress
    from pipeline.params import load
    from pipeline.stages import gradients
    from segformer.device import best_device

    settings = load.load_config(params)
    arms = gradients.ArmSelection(
        settings.ablation.losses, settings.ablation.seeds, settings.train.class_weights
    )
    with progress.show_progress("gradients", "models") as advance:
        gradients.measure_gradients(
            settings.gradients,
            arms=arms,
            inputs=gradients.GradientInputs(models, pack, weights, class_weights),
            out=out,
            device=best_device(),
            progress=advance,
        )


@ablation_app.command(rich_help_panel=STAGES)
def ablation(
    evaluations: Annotated[
        Path, path_option("--evaluations", "The folder with every arm's scores.")
    ],
    histories: Annotated[Path, path_option("--histories", "The folder with every arm's training.")],
    gradients: Annotated[
        Path, path_option("--gradients", "The folder with the gradients' tables.")
    ],
    frequency: Annotated[Path, path_option("--frequency", "The table of class frequencies.")],
    out: Out,
    params: Params = PARAMS,
) -> None:
    """Compare the losses: the same budget, seeds, intervals, and one honest sentence.

    Example: python -m pipeline ablation --evaluations data/evaluate --histories data/train
    --gradients data/gradients --frequency data/frequency/class_frequency.csv --out data/ablation
    """
    from pipeline.params import load
    from pipeline.stages import ablation
    from pipeline.stages.train import read_run_facts
    from pipeline.tracking import client

    section = load.load_config(params).ablation
    inputs = ablation.AblationInputs(evaluations, histories, gradients, frequency)
    result = ablation.compare_arms(section, inputs=inputs, out=out)
    typer.echo(result.sentence)
    arms = [read_run_facts(histories / arm) for arm in section.arm_names()]
    tags = {"protocol": result.protocol, "verdict": result.sentence}
    client.log_ablation_run("ablation", arms, result.metrics, out, tags)
