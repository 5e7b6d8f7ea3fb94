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


def _above_the_bar(text: str) -> None:
    # rich watches sys.stdout while it draws; typer.echo would write past it, into the bar.
    sys.stdout.write(f"{text}\n")


def _path(flag: str, help: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(flag, help=help)
    return option


Images = Annotated[Path, _path("--images", "The zip with the photographs.")]
GroundTruth = Annotated[Path, _path("--ground-truth", "The zip with the official label maps.")]
Labels = Annotated[Path, _path("--labels", "The zip with the remapped labels.")]
Frames = Annotated[Path, _path("--frames", "The table of frames.")]
Extra = Annotated[Path, _path("--extra", "The folder with the zips of train_extra.")]


@app.command(rich_help_panel=STAGES)
def download(out: Out, params: Params = PARAMS) -> None:
    """Bring the raw data: draw it, fetch it from the Cityscapes site, or take it from a folder.

    What is interrupted goes on where it was when the same command is given again.

    Example: python -m pipeline download --out data/download
    """
    from pipeline import config, credentials, progress
    from pipeline.stages import download

    section = config.load(params).download
    means = download.Means()
    if download.needs_account(section, out=out):
        account = credentials.find()  # a question would not go with the bar that follows
        means = download.Means(account=lambda: account)
    with progress.showing("download", section.unit) as advance:
        download.run(section, out=out, progress=advance, say=_above_the_bar, means=means)


@app.command(rich_help_panel=STAGES)
def remap(
    images: Images, ground_truth: GroundTruth, extra: Extra, out: Out, params: Params = PARAMS
) -> None:
    """Pair photographs and labels, and turn label ids into the 19 train ids.

    Example: python -m pipeline remap --images left.zip --ground-truth gt.zip
    --extra data/download/train_extra --out data/remap
    """
    from pipeline import config, progress
    from pipeline.stages import remap

    section = config.load(params).remap
    with progress.showing("remap", "frames") as advance:
        told = remap.run(
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
    pixel_counts: Annotated[Path, _path("--pixel-counts", "Pixels per frame and label id.")],
    out: Out,
    params: Params = PARAMS,
) -> None:
    """Count how often each class occurs, and derive weights and sampling from it.

    Example: python -m pipeline frequency --frames data/remap/frames.csv
    --pixel-counts data/remap/pixel_counts.csv --out data/frequency
    """
    from pipeline import config
    from pipeline.stages import frequency

    section = config.load(params).frequency
    for sentence in frequency.run(section, frames=frames, pixel_counts=pixel_counts, out=out):
        typer.echo(sentence)


@app.command(rich_help_panel=STAGES)
def pack(
    images: Images, labels: Labels, frames: Frames, extra: Extra, out: Out, params: Params = PARAMS
) -> None:
    """Decode and resize every frame once, into arrays.

    Example: python -m pipeline pack --images left.zip --labels data/remap/labels.zip
    --frames data/remap/frames.csv --extra data/download/train_extra --out data/pack
    """
    from pipeline import config, progress
    from pipeline.stages import pack

    section = config.load(params).pack
    with progress.showing("pack", "frames") as advance:
        pack.run(
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
    from pipeline import config
    from pipeline.stages import pretrained

    typer.echo(pretrained.run(config.load(params).pretrained, out=out))


@app.command(rich_help_panel=STAGES)
def train(
    pack: Annotated[Path, _path("--pack", "The packed frames.")],
    frequency: Annotated[Path, _path("--frequency", "The tables of class frequencies.")],
    weights: Annotated[Path, _path("--weights", "The folder with the starting weights.")],
    out: Out,
    work: Annotated[Path, _path("--work", "The folder of trainings in progress.")],
    loss: Annotated[str, typer.Option("--loss", help="The loss: ce or dice.")],
    seed: Annotated[int, typer.Option("--seed", help="Of weights, order and augmentation.")],
    params: Params = PARAMS,
) -> None:
    """Train one arm of the ablation; what was interrupted goes on where it was.

    Example: python -m pipeline train --pack data/pack --frequency data/frequency
    --weights data/pretrained --out data/train/ce-0 --work .work/checkpoints --loss ce --seed 0
    """
    from pipeline import training_run
    from pipeline.training_parts import Inputs

    training_run.run(
        params,
        loss=loss,
        seed=seed,
        inputs=Inputs(pack=pack, frequency=frequency, weights=weights),
        out=out,
        work=work,
    )


@app.command(rich_help_panel=STAGES)
def evaluate(
    model: Annotated[Path, _path("--model", "The folder of the trained model.")],
    images: Images,
    labels: Labels,
    frames: Frames,
    out: Out,
    params: Params = PARAMS,
) -> None:
    """Score a trained model on the validation frames.

    Example: python -m pipeline evaluate --model data/train/ce-0 --images left.zip
    --labels data/remap/labels.zip --frames data/remap/frames.csv --out data/evaluate/ce-0
    """
    from pipeline import config, progress, provenance, tracking
    from pipeline.stages import evaluate
    from pipeline.stages.train import read_facts
    from segformer.serving import example

    settings = config.load(params)
    with progress.showing(f"evaluate {model.name}", "frames") as advance:
        result = evaluate.run(
            settings.evaluate,
            model=model,
            images=images,
            labels=labels,
            frames=frames,
            split_rule=settings.remap.rule,
            out=out,
            progress=advance,
        )
    typer.echo(result.sentence)
    facts = read_facts(model)
    tags = {"loss": facts["loss"], "seed": facts["seed"], "data.md5": facts["data_md5"]}
    tags |= config.flat(settings, "evaluate") | provenance.sums(model / "model.safetensors", labels)
    with tracking.resumed_run(facts, name=model.name, tags=tags) as run:
        run.log_evaluation(result.metrics, result.class_iou, result.protocol)
        run.log_artifacts(out, under="evaluate")
        run.log_model(
            model, example=example(settings.evaluate.size), input_size=settings.evaluate.size
        )


@app.command(rich_help_panel=STAGES)
def ablation(
    evaluations: Annotated[Path, _path("--evaluations", "The folder with every arm's scores.")],
    histories: Annotated[Path, _path("--histories", "The folder with every arm's training.")],
    frequency: Annotated[Path, _path("--frequency", "The table of class frequencies.")],
    out: Out,
    params: Params = PARAMS,
) -> None:
    """Compare the losses: the same budget, seeds, intervals, and one honest sentence.

    Example: python -m pipeline ablation --evaluations data/evaluate --histories data/train
    --frequency data/frequency/class_frequency.csv --out data/ablation
    """
    from pipeline import config, tracking
    from pipeline.stages import ablation
    from pipeline.stages.train import read_facts

    section = config.load(params).ablation
    result = ablation.run(
        section, evaluations=evaluations, histories=histories, frequency=frequency, out=out
    )
    typer.echo(result.sentence)
    arms = [read_facts(histories / arm) for arm in section.arms()]
    tracking.ablation_run("ablation", arms, result.metrics, out)
