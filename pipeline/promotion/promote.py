"""Promotes a challenger to champion if the gate allows it, and rolls a promotion back."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from pipeline.params.promote import Promote
from pipeline.promotion import gate
from pipeline.promotion.gate import Decision, GateOutcome
from pipeline.promotion.report import write_report
from pipeline.tracking import store
from pipeline.tracking.registry import PREVIOUS, ROLLED_BACK_TAG, ModelRegistry, TrackedModel


@dataclass(frozen=True)
class PromotionResult:
    """The result of a promotion.

    Attributes:
        decision: of the gate.
        challenger: the model that the gate examined.
        champion: the champion after the decision; None if there is none.
        report: the gate's report in Markdown.
        summary: the decision in a sentence.
    """

    decision: Decision
    challenger: TrackedModel
    champion: TrackedModel | None
    report: str
    summary: str

    @property
    def is_challenger_champion(self) -> bool:
        """Whether the challenger is champion now, by this decision or an earlier one."""
        return self.champion is not None and self.champion.version == self.challenger.version


def promote(
    rules: Promote,
    challengers: Sequence[str] = (),
    *,
    experiment: str | None = None,
    force: bool = False,
) -> PromotionResult:
    """Promote a trained model to champion if the gate allows it.

    Args:
        rules: of the gate.
        challengers: names of arms (each the newest run of that name), run ids or run keys; the one
            with the highest mIoU is the challenger. Default: the best arm of the newest ablation.
        experiment: the DVC experiment to look up arms and ablation in; None: the workspace.
        force: promote the challenger whatever the gate decides; report and tags record it.

    Raises:
        ValueError: if there is no such model, it was never evaluated, or MLflow does not answer.
    """
    models = ModelRegistry()
    if challengers:
        challenger = models.find_model(*challengers, experiment=experiment)
    else:
        challenger = models.best_of_newest_ablation(experiment)
    champion = models.get_by_alias(store.CHAMPION)
    decision = _decide(rules, models, challenger, champion)
    if force and not decision.is_promoted and decision.outcome is not GateOutcome.ALREADY_CHAMPION:
        decision = replace(
            decision,
            outcome=GateOutcome.FORCED,
            reason=(
                f"forced by the user; the gate's decision: {decision.outcome}, {decision.reason}"
            ),
        )
    if decision.is_promoted:
        challenger = replace(challenger, version=models.register(challenger))
    report = write_report(
        decision, rules, challenger=str(challenger), champion=str(champion) if champion else "none"
    )
    if decision.outcome is not GateOutcome.ALREADY_CHAMPION:
        _log_decision(models, challenger, champion, decision, report)
    if decision.is_promoted and challenger.version:
        models.set_champion(challenger.version)
        champion = challenger
    verdict = _format_verdict(decision, challenger, champion)
    summary = f"{verdict}: {decision.outcome}, {decision.reason}"
    return PromotionResult(decision, challenger, champion, report, summary)


def rollback() -> str:
    """Make the former champion champion again, and return a sentence that says so.

    The version that is rolled back becomes `previous`, so that a second rollback undoes the first.
    While it is marked as rolled back, the gate does not promote it.

    Raises:
        ValueError: if there is no former champion, or MLflow does not answer.
    """
    models = ModelRegistry()
    champion, former = models.get_by_alias(store.CHAMPION), models.get_by_alias(PREVIOUS)
    if champion is None or former is None or former.version == champion.version:
        raise ValueError(
            f"there is no former champion of {store.MODEL_NAME} to return to; MLflow lists the"
            f" versions ({store.page_url()})"
        )
    assert champion.version is not None
    assert former.version is not None
    models.set_tags(
        champion.version, {ROLLED_BACK_TAG: datetime.now(UTC).isoformat(timespec="seconds")}
    )
    models.set_tags(former.version, {ROLLED_BACK_TAG: ""})
    models.set_champion(former.version)
    return f"{former} is champion again, {champion} is {PREVIOUS}"


def _decide(
    rules: Promote, registry: ModelRegistry, challenger: TrackedModel, champion: TrackedModel | None
) -> Decision:
    if champion and champion.version == challenger.version:
        return Decision(GateOutcome.ALREADY_CHAMPION, "there is nothing to compare")
    try:
        scores = registry.load_scores(challenger)
    except LookupError as error:
        raise ValueError(f"{error}: run `dvc repro --force evaluate@{challenger.name}`") from None
    if challenger.is_rolled_back:
        return Decision(
            GateOutcome.ROLLED_BACK, "a user rolled it back; promote it again with `--force`"
        )
    if champion is None:
        return Decision(GateOutcome.FIRST, "there was no champion to compare with")
    try:
        champion_scores = registry.load_scores(champion)
    except (LookupError, ValueError) as error:
        return Decision(GateOutcome.NO_CHAMPION_SCORES, str(error))
    return gate.decide(rules, scores, champion_scores)


def _format_verdict(
    decision: Decision, challenger: TrackedModel, champion: TrackedModel | None
) -> str:
    if decision.outcome is GateOutcome.ALREADY_CHAMPION:
        return f"{challenger} stays champion"
    if decision.is_promoted:
        return f"{challenger} is champion now"
    consequence = f"{champion} stays champion" if champion else "there is no champion"
    return f"{challenger} is not promoted, {consequence}"


def _log_decision(
    registry: ModelRegistry,
    model: TrackedModel,
    champion: TrackedModel | None,
    decision: Decision,
    report: str,
) -> None:
    tags = {
        "gate.outcome": str(decision.outcome),
        "gate.reason": decision.reason,
        "gate.champion": str(champion) if champion else "none",
    }
    registry.log_report(model, tags, report)
    if decision.is_promoted and model.version:
        description = (
            f"{model.name}, {decision.outcome}: {decision.reason}."
            " The gate's report is `gate/report.md` in its run."
        )
        registry.set_tags(model.version, {**tags, ROLLED_BACK_TAG: ""}, description=description)
