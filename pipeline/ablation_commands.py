"""The sub-commands of dvc.yaml that look at all arms together."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.stage_commands import PARAMS, STAGES, Out, Params, path

# Nothing heavy up here: --help answers in a moment, each command imports what it needs.

app = typer.Typer()

Models = Annotated[Path, path("--models", "The folder with every arm's training.")]


@app.command(rich_help_panel=STAGES)
def gradients(
    models: Models,
    pack: Annotated[Path, path("--pack", "The packed frames.")],
    weights: Annotated[Path, path("--weights", "The folder with the starting weights.")],
    class_weights: Annotated[Path, path("--class-weights", "The table of class weights.")],
    out: Out,
    params: Params = PARAMS,
) -> None:
    """Measure how hard each class pulls at each layer, for every loss at the same weights.

    Example: python -m pipeline gradients --models data/train --pack data/pack
    --weights data/pretrained --class-weights data/frequency/class_weights.csv --out data/gradients
    """
    from pipeline import config, progress
    from pipeline.stages import gradients
    from segformer.acceleration import best_device

    settings = config.load(params)
    arms = gradients.Arms(
        settings.ablation.losses, settings.ablation.seeds, settings.train.class_weights
    )
    with progress.showing("gradients", "models") as advance:
        gradients.run(
            settings.gradients,
            arms=arms,
            inputs=gradients.Inputs(models, pack, weights, class_weights),
            out=out,
            device=best_device(),
            progress=advance,
        )


@app.command(rich_help_panel=STAGES)
def ablation(
    evaluations: Annotated[Path, path("--evaluations", "The folder with every arm's scores.")],
    histories: Annotated[Path, path("--histories", "The folder with every arm's training.")],
    gradients: Annotated[Path, path("--gradients", "The folder with the gradients' tables.")],
    frequency: Annotated[Path, path("--frequency", "The table of class frequencies.")],
    out: Out,
    params: Params = PARAMS,
) -> None:
    """Compare the losses: the same budget, seeds, intervals, and one honest sentence.

    Example: python -m pipeline ablation --evaluations data/evaluate --histories data/train
    --gradients data/gradients --frequency data/frequency/class_frequency.csv --out data/ablation
    """
    from pipeline import config, tracking
    from pipeline.stages import ablation
    from pipeline.stages.train import read_facts

    section = config.load(params).ablation
    inputs = ablation.Inputs(evaluations, histories, gradients, frequency)
    result = ablation.run(section, inputs=inputs, out=out)
    typer.echo(result.sentence)
    arms = [read_facts(histories / arm) for arm in section.arms()]
    tags = {"protocol": result.protocol, "verdict": result.sentence}
    tracking.ablation_run("ablation", arms, result.metrics, out, tags)
