"""The sub-commands of dvc.yaml that look at all arms together."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.stage_commands import PARAMS, STAGES, Out, Params, path_option

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
    from pipeline import config, progress
    from pipeline.stages import gradients
    from segformer.acceleration import best_device

    settings = config.load_config(params)
    arms = gradients.ArmSelection(
        settings.ablation.losses, settings.ablation.seeds, settings.train.class_weights
    )
    with progress.inference_settings("gradients", "models") as advance:
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
    evaluations: Annotated[Path, path_option("--evaluations", "The folder with every arm's scores.")],
    histories: Annotated[Path, path_option("--histories", "The folder with every arm's training.")],
    gradients: Annotated[Path, path_option("--gradients", "The folder with the gradients' tables.")],
    frequency: Annotated[Path, path_option("--frequency", "The table of class frequencies.")],
    out: Out,
    params: Params = PARAMS,
) -> None:
    """Compare the losses: the same budget, seeds, intervals, and one honest sentence.

    Example: python -m pipeline ablation --evaluations data/evaluate --histories data/train
    --gradients data/gradients --frequency data/frequency/class_frequency.csv --out data/ablation
    """
    from pipeline import config, tracking
    from pipeline.stages import ablation
    from pipeline.stages.train import read_run_facts

    section = config.load_config(params).ablation
    inputs = ablation.AblationInputs(evaluations, histories, gradients, frequency)
    result = ablation.compare_arms(section, inputs=inputs, out=out)
    typer.echo(result.sentence)
    arms = [read_run_facts(histories / arm) for arm in section.arm_names()]
    tags = {"protocol": result.protocol, "verdict": result.sentence}
    tracking.log_ablation_run("ablation", arms, result.metrics, out, tags)
