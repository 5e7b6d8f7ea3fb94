"""Promotes a model past the gate, or back: asks the registry, decides, and writes down why."""

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
    """What came of a challenge.

    Attributes:
        decision: of the gate.
        challenger: the model that wanted to be champion.
        champion: the model that is champion now; None: there is none.
        report: in Markdown.
        summary: the same in short.
    """

    decision: Decision
    challenger: TrackedModel
    champion: TrackedModel | None
    report: str
    summary: str

    @property
    def is_challenger_champion(self) -> bool:
        """Whether the challenger is champion now, by this or before."""
        return self.champion is not None and self.champion.version == self.challenger.version


def promote(
    rules: Promote,
    challengers: Sequence[str] = (),
    *,
    experiment: str | None = None,
    force: bool = False,
) -> PromotionResult:
    """Let a trained model challenge the champion.

    Args:
        rules: of the gate.
        challengers: arms, which means their newest runs, or ids or keys of runs; the best of them
            challenges. Without: the best arm of the newest ablation.
        experiment: the DVC experiment whose arms and ablation are meant; None: the workspace's.
        force: promote it whatever the gate says; report and tags tell so.

    Raises:
        ValueError: if there is no such model, it was never evaluated, or MLflow does not answer.
    """
    models = ModelRegistry()
    if challengers:
        entry = models.find_model(*challengers, experiment=experiment)
    else:
        entry = models.best_of_newest_ablation(experiment)
    champion = models.get_by_alias(store.CHAMPION)
    decision = _decide(rules, models, entry, champion)
    if force and not decision.is_promoted and decision.outcome is not GateOutcome.ALREADY_CHAMPION:
        decision = replace(
            decision,
            outcome=GateOutcome.FORCED,
            reason=f"at a person's word; the gate said: {decision.outcome}, {decision.reason}",
        )
    if decision.is_promoted:
        entry = replace(entry, version=models.register(entry))
    report = write_report(
        decision, rules, challenger=str(entry), champion=str(champion) if champion else "none"
    )
    if decision.outcome is not GateOutcome.ALREADY_CHAMPION:
        _log_decision(models, entry, champion, decision, report)
    if decision.is_promoted and entry.version:
        models.set_champion(entry.version)
        champion = entry
    stays = f"{champion} stays" if champion else "there is no champion"
    verdict = "is champion now" if decision.is_promoted else f"is not promoted, {stays}"
    if decision.outcome is GateOutcome.ALREADY_CHAMPION:
        verdict = "stays champion"
    sentence = f"{entry} {verdict}: {decision.outcome}, {decision.reason}"
    return PromotionResult(decision, entry, champion, report, sentence)


def rollback() -> str:
    """Make the former champion champion again, and return a sentence that says so.

    The one turned away from is `previous` then, so that a second rollback undoes the first; while
    it is turned away from, the gate does not let it pass.

    Raises:
        ValueError: if there is no former champion, or MLflow does not answer.
    """
    models = ModelRegistry()
    champion, former = models.get_by_alias(store.CHAMPION), models.get_by_alias(PREVIOUS)
    if champion is None or former is None or former.version == champion.version:
        raise ValueError(
            f"there is no former champion of {store.MODEL_NAME} to return to; the versions are listed in"
            f" MLflow ({store.page_url()})"
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
        return Decision(GateOutcome.ALREADY_CHAMPION, "there is nothing to compare it with")
    try:
        scores = registry.load_scores(challenger)
    except LookupError as missing:
        raise ValueError(
            f"{missing}: `dvc repro --force evaluate@{challenger.name}` evaluates it anew"
        ) from None
    if challenger.is_rolled_back:
        return Decision(GateOutcome.ROLLED_BACK, "people have turned away from it")
    if champion is None:
        return Decision(GateOutcome.FIRST, "there was none to compare it with")
    try:
        former = registry.load_scores(champion)
    except (LookupError, ValueError) as missing:
        return Decision(GateOutcome.NO_CHAMPION_SCORES, str(missing))
    return gate.decide(rules, scores, former)


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
        story = (
            f"{model.name}, {decision.outcome}: {decision.reason}."
            " The gate's report is `gate/report.md` in its run."
        )
        registry.set_tags(model.version, {**tags, ROLLED_BACK_TAG: ""}, description=story)
