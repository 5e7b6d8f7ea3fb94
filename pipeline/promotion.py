"""Promotes a model past the gate, or back: asks the registry, decides, and writes down why."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from pipeline import gate, store
from pipeline.gate import Decision, Outcome, Promote
from pipeline.gate_report import write_report
from pipeline.tracking.registry import PREVIOUS, ROLLED_BACK, Entry, Registry


@dataclass(frozen=True)
class Promotion:
    """What came of a challenge.

    Attributes:
        decision: of the gate.
        challenger: the model that wanted to be champion.
        champion: the model that is champion now; None: there is none.
        report: in Markdown.
        sentence: the same in short.
    """

    decision: Decision
    challenger: Entry
    champion: Entry | None
    report: str
    sentence: str

    @property
    def is_challenger_champion(self) -> bool:
        """Whether the challenger is champion now, by this or before."""
        return self.champion is not None and self.champion.version == self.challenger.version


def promote(
    rules: Promote,
    challengers: Sequence[str] = (),
    *,
    experiment: str | None = None,
    regardless: bool = False,
) -> Promotion:
    """Let a trained model challenge the champion.

    Args:
        rules: of the gate.
        challengers: arms, which means their newest runs, or ids or keys of runs; the best of them
            challenges. Without: the best arm of the newest ablation.
        experiment: the DVC experiment whose arms and ablation are meant; None: the workspace's.
        regardless: promote it whatever the gate says; report and tags tell so.

    Raises:
        ValueError: if there is no such model, it was never evaluated, or MLflow does not answer.
    """
    models = Registry()
    if challengers:
        entry = models.find(*challengers, experiment=experiment)
    else:
        entry = models.best_of_newest_ablation(experiment)
    champion = models.holder(store.CHAMPION)
    decision = _decide(rules, models, entry, champion)
    if regardless and not decision.is_promoted and decision.outcome is not Outcome.SAME:
        decision = replace(
            decision,
            outcome=Outcome.REGARDLESS,
            reason=f"at a person's word; the gate said: {decision.outcome}, {decision.reason}",
        )
    if decision.is_promoted:
        entry = replace(entry, version=models.register(entry))
    report = write_report(
        decision, rules, challenger=str(entry), champion=str(champion) if champion else "none"
    )
    if decision.outcome is not Outcome.SAME:
        _write_down(models, entry, champion, decision, report)
    if decision.is_promoted and entry.version:
        models.crown(entry.version)
        champion = entry
    stays = f"{champion} stays" if champion else "there is no champion"
    verdict = "is champion now" if decision.is_promoted else f"is not promoted, {stays}"
    if decision.outcome is Outcome.SAME:
        verdict = "stays champion"
    sentence = f"{entry} {verdict}: {decision.outcome}, {decision.reason}"
    return Promotion(decision, entry, champion, report, sentence)


def rollback() -> str:
    """Make the former champion champion again, and return a sentence that says so.

    The one turned away from is `previous` then, so that a second rollback undoes the first; while
    it is turned away from, the gate does not let it pass.

    Raises:
        ValueError: if there is no former champion, or MLflow does not answer.
    """
    models = Registry()
    champion, former = models.holder(store.CHAMPION), models.holder(PREVIOUS)
    if champion is None or former is None or former.version == champion.version:
        raise ValueError(
            f"there is no former champion of {store.MODEL} to return to; the versions are listed in"
            f" MLflow ({store.page()})"
        )
    assert champion.version is not None
    assert former.version is not None
    models.mark(champion.version, {ROLLED_BACK: datetime.now(UTC).isoformat(timespec="seconds")})
    models.mark(former.version, {ROLLED_BACK: ""})
    models.crown(former.version)
    return f"{former} is champion again, {champion} is {PREVIOUS}"


def _decide(
    rules: Promote, models: Registry, challenger: Entry, champion: Entry | None
) -> Decision:
    if champion and champion.version == challenger.version:
        return Decision(Outcome.SAME, "there is nothing to compare it with")
    try:
        scores = models.scores(challenger)
    except LookupError as missing:
        raise ValueError(
            f"{missing}: `dvc repro --force evaluate@{challenger.name}` evaluates it anew"
        ) from None
    if challenger.is_rolled_back:
        return Decision(Outcome.ROLLED_BACK, "people have turned away from it")
    if champion is None:
        return Decision(Outcome.FIRST, "there was none to compare it with")
    try:
        former = models.scores(champion)
    except (LookupError, ValueError) as missing:
        return Decision(Outcome.NO_CHAMPION_SCORES, str(missing))
    return gate.decide(rules, scores, former)


def _write_down(
    models: Registry, entry: Entry, champion: Entry | None, decision: Decision, report: str
) -> None:
    tags = {
        "gate.outcome": str(decision.outcome),
        "gate.reason": decision.reason,
        "gate.champion": str(champion) if champion else "none",
    }
    models.write_down(entry, tags, report)
    if decision.is_promoted and entry.version:
        story = (
            f"{entry.name}, {decision.outcome}: {decision.reason}."
            " The gate's report is `gate/report.md` in its run."
        )
        models.mark(entry.version, {**tags, ROLLED_BACK: ""}, description=story)
