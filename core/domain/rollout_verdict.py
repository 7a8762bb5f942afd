"""What a rollout's evidence says: promote, abort, roll back, keep, or go on. Pure, with its reason as a sentence."""

from collections.abc import Sequence
from dataclasses import dataclass

from core.domain.guard import ArmWork, find_fault, lower_bound
from core.domain.live_comparison import LiveOpinion, compare, thumbs_of
from core.domain.policy import RolloutPolicy
from core.domain.rollout import Arm, RolloutKind, RolloutOutcome
from core.domain.sequential_test import LikeRateTest, SequentialTest
from core.domain.value import Float, Int, Specification

MIN_RECORDED_THUMBS = 30
"""Thumbs that the incumbent needs before the rollout, for its like rate to be a yardstick."""

_RECORD_Z = 0.67
"""The record's lower quartile. With max_like_fall on top an equal challenger raised at most 1.7 % alarms (300 streams
of 600 thumbs, records of 30 to 300); the lower 5 % bound finds 0.57 of falls from 0.7 to 0.45 where this finds 0.72."""


class Thumbs(Specification):
    """How many thumbs, and how many of them likes."""

    count: Int = 0
    likes: Int = 0

    @property
    def rate(self) -> float | None:
        return self.likes / self.count if self.count else None


class RolloutEvidence(Specification):
    """What is known of a rollout. Evidence of 1 says nothing; 1 / false_alarm decides.

    `opinions` are all current ones on its pictures, `wins` and `losses` the challenger's comparisons. `recorded` is
    what people said of the incumbent's pictures before the rollout began. `newest_at`: of opinions, seconds since 1970.
    """

    opinions: Int = 0
    newest_at: Float | None = None
    users: Int = 0
    wins: Int = 0
    losses: Int = 0
    ties: Int = 0
    better: Float = 1.0
    worse: Float = 1.0
    liked_less: Float | None = None
    challenger_thumbs: Thumbs = Thumbs()
    incumbent_thumbs: Thumbs = Thumbs()
    recorded: Thumbs = Thumbs()
    challenger_work: ArmWork = ArmWork()
    incumbent_work: ArmWork = ArmWork()

    @property
    def harm(self) -> float:
        """Both ways of being worse in one number: the mean of two e-values is one."""
        return self.worse if self.liked_less is None else (self.worse + self.liked_less) / 2


@dataclass(frozen=True)
class Ruling:
    """The end of a rollout: how, by what (`test`, `guard` or `clock`), and why."""

    outcome: RolloutOutcome
    actor: str
    reason: str


def weigh(
    opinions: Sequence[LiveOpinion],
    policy: RolloutPolicy,
    *,
    recorded: Thumbs,
    challenger_work: ArmWork | None = None,
    incumbent_work: ArmWork | None = None,
) -> RolloutEvidence:
    """The evidence of a rollout's current opinions, oldest first."""
    test, comparisons = SequentialTest(), compare(opinions, max_per_user=policy.max_per_user)
    for each in comparisons:
        test.add(each.difference, each.voice)
    return RolloutEvidence(
        opinions=len(opinions),
        users=len({opinion.user_ref for opinion in opinions}),
        wins=sum(each.difference > 0 for each in comparisons),
        losses=sum(each.difference < 0 for each in comparisons),
        ties=sum(each.difference == 0 for each in comparisons),
        better=test.better,
        worse=test.worse,
        liked_less=_liked_less(opinions, policy, recorded),
        challenger_thumbs=_count(opinions, Arm.CHALLENGER),
        incumbent_thumbs=_count(opinions, Arm.INCUMBENT),
        recorded=recorded,
        challenger_work=challenger_work or ArmWork(),
        incumbent_work=incumbent_work or ArmWork(),
    )


def _liked_less(opinions: Sequence[LiveOpinion], policy: RolloutPolicy, recorded: Thumbs) -> float | None:
    """Evidence that the challenger is liked less than the record allows; the record's own doubt is in its favour."""
    allowed = lower_bound(recorded.likes, recorded.count, z=_RECORD_Z) * (1 - policy.max_like_fall)
    if recorded.count < MIN_RECORDED_THUMBS or not 0 < allowed < 1:
        return None
    test = LikeRateTest(allowed)
    for thumb in thumbs_of(opinions, Arm.CHALLENGER, max_per_user=policy.max_per_user):
        test.add(thumb.voice, liked=thumb.liked)
    return test.lower


def _count(opinions: Sequence[LiveOpinion], arm: Arm) -> Thumbs:
    thumbs = thumbs_of(opinions, arm, max_per_user=len(opinions))
    return Thumbs(count=len(thumbs), likes=sum(thumb.liked for thumb in thumbs))


def decide(evidence: RolloutEvidence, policy: RolloutPolicy, *, kind: RolloutKind, age_days: float) -> Ruling | None:
    """How a rollout ends now; None where it goes on."""
    bad, good, late = (
        (RolloutOutcome.ABORTED, RolloutOutcome.PROMOTED, RolloutOutcome.ABORTED)
        if kind is RolloutKind.CANARY
        else (RolloutOutcome.ROLLED_BACK, RolloutOutcome.KEPT, RolloutOutcome.KEPT)
    )
    needed = 1 / policy.false_alarm
    if fault := find_fault(evidence.challenger_work, evidence.incumbent_work, policy):
        return Ruling(bad, "guard", fault)
    if evidence.harm >= needed:
        return Ruling(bad, "test", f"The challenger is worse: {_figures(evidence, evidence.harm, needed)}.")
    if evidence.better >= needed:
        return Ruling(good, "test", f"The challenger is better: {_figures(evidence, evidence.better, needed)}.")
    limit = policy.max_days if kind is RolloutKind.CANARY else policy.watch_days
    if age_days >= limit:
        return Ruling(late, "clock", f"Undecided: {evidence.opinions} live opinions in {age_days:.1f} days.")
    return None


def _figures(evidence: RolloutEvidence, strength: float, needed: float) -> str:
    parts = [f"{evidence.wins} comparisons won and {evidence.losses} lost"]
    if evidence.liked_less is not None and evidence.challenger_thumbs.count:
        now, before = evidence.challenger_thumbs, evidence.recorded
        parts.append(f"{now.likes} of {now.count} thumbs up, {before.likes} of {before.count} for the incumbent before")
    parts.append(f"evidence {min(strength, 9999):.0f} of {needed:.0f} needed, from {evidence.users} users")
    return "; ".join(parts)
