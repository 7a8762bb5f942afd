"""Simulated tenants: feedback, policy, selection, verdict, canary and watch, one update after the other.

Feedback is made up, and what training and evaluation would have found is drawn from real trials of the same condition
and taste; policy, selection, verdict and the live test are the system's own. In a `steady` tenant one condition holds
all along. In a `turned` one a good model was learned from clean feedback; then all feedback changes at once, while who
looks at pictures keeps the taste, and candidates are as if the clean feedback had never been: a worst case.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bench.safety import canary
from bench.safety.condition import CONDITIONS, Condition
from bench.safety.draw import draw_report
from bench.safety.feed import Feed
from bench.safety.quality import NOISE, Quality
from bench.safety.record import Record
from core.domain.evaluation import Decision
from core.domain.live_comparison import LiveOpinion
from core.domain.policy import UpdatePolicy, decide, enough
from core.domain.rollout import RolloutKind, RolloutOutcome
from core.domain.selection import select

UPDATES = 3
_PATIENCE_HOURS = 30 * 24
_CLEAN = "clean, 256"
PER_DAY = (15, 60, 200, 600)
"""Opinions a day: from a tenant who hardly fires to a busy one."""


@dataclass(frozen=True, slots=True)
class Step:
    """One update, or the wait for one that never came.

    `decision` is the verdict's, `never fired` or `too little`; `live` how the canary ended. `truth` compares with the
    champion of the time: `worse`, `same`, `better`, empty where there was no candidate.
    """

    condition: str
    tenant: str
    decision: str
    truth: str = ""
    live: str = ""
    is_promoted: bool = False
    is_taken_back: bool = False

    @property
    def is_false(self) -> bool:
        """A promotion of what is truly worse."""
        return self.is_promoted and self.truth == "worse"


def simulate(
    records: Sequence[Record], policy: UpdatePolicy, *, tenants: int, seed: int, approves: bool = True
) -> Iterator[Step]:
    """So many tenants of each kind and condition; a person who is asked says yes always, or never."""
    tastes = {name: {each.taste for each in records if each.condition == name} for name in CONDITIONS}
    settled = [each for each in records if each.condition == _CLEAN and each.difference.says == "better"]
    for index in range(tenants):
        for number, (name, turned) in enumerate((name, turned) for name in CONDITIONS for turned in (False, True)):
            rng = np.random.default_rng([seed, index, number])
            known = tastes[name] & {each.taste for each in settled} if turned else tastes[name]
            if not known:
                continue
            taste = str(rng.choice(sorted(known)))
            alike = [each for each in records if each.condition == name and each.taste == taste]
            champion = _pick(rng, [each for each in settled if each.taste == taste]) if turned else None
            tenant = _Tenant(
                rng, _fitted(policy, CONDITIONS[name]), CONDITIONS[name], champion=champion, approves=approves
            )
            for _ in range(UPDATES):
                yield tenant.turn(alike)


def _fitted(policy: UpdatePolicy, condition: Condition) -> UpdatePolicy:
    """A tenant with few opinions has a policy that asks for no more, or it would never fire."""
    if condition.count >= policy.min_new_labels:
        return policy
    return policy.model_copy(update={"min_new_labels": condition.count, "many_new_labels": condition.count})


def _pick(rng: np.random.Generator, records: Sequence[Record]) -> Record:
    return records[int(rng.integers(len(records)))]


class _Tenant:
    """One tenant's loop; it begins with a champion where it is a turned one."""

    def __init__(
        self,
        rng: np.random.Generator,
        policy: UpdatePolicy,
        condition: Condition,
        *,
        champion: Record | None,
        approves: bool,
    ) -> None:
        self._rng, self._policy, self._condition, self._approves = rng, policy, condition, approves
        self._per_day = float(rng.choice(PER_DAY))
        self._feed = Feed(rng, per_day=self._per_day)
        self._champion = champion
        self._kind = "turned" if champion else "steady"
        # Two camps never share a taste, and each votes by its own.
        self._is_divided = condition.other_share == 0.5
        self._has_taste = condition.has_taste or (champion is not None and not self._is_divided)

    def turn(self, records: Sequence[Record]) -> Step:
        """Wait until the policy fires, and follow the update to its end."""
        feed, policy = self._feed, self._policy
        for _ in range(_PATIENCE_HOURS):
            if decide(policy, feed.standing()).due:
                break
            feed.wait(self._condition)
        else:
            return self._step("never fired")
        feed.count()
        found = select(feed.opinions, policy.selection)
        if not enough(policy, pairs=found.pairs, likes=found.likes + found.dislikes):
            feed.rest(0)
            return self._step("too little")
        record = _pick(self._rng, records)
        report = draw_report(self._rng, record, self._champion, found.manifest, raters=found.raters)
        step = self._follow(record, Record(record.trial, report, record.facts).judge(policy).decision)
        feed.rest(1)
        return step

    def _follow(self, record: Record, decision: Decision) -> Step:
        candidate, champion = record.candidate, self._champion.candidate if self._champion else record.base
        truth = compare(self._seen(candidate, to_all=True), self._seen(champion, to_all=True))
        asked = decision is Decision.NEEDS_APPROVAL
        if decision is Decision.REJECT or (asked and not self._approves):
            return self._step(decision, truth)
        votes = canary.vote(
            self._rng,
            self._condition,
            challenger=self._seen(candidate, to_all=False),
            incumbent=self._seen(champion, to_all=False),
        )
        trial = self._roll_out(votes, RolloutKind.CANARY)
        if trial.ruling.outcome is not RolloutOutcome.PROMOTED:
            return self._step(decision, truth, f"{trial.ruling.outcome} by the {trial.ruling.actor}")
        watch = self._roll_out(votes, RolloutKind.WATCH)
        is_taken_back = watch.ruling.outcome is RolloutOutcome.ROLLED_BACK
        if not is_taken_back:
            self._champion = record
        return replace(self._step(decision, truth, "promoted"), is_promoted=True, is_taken_back=is_taken_back)

    def _roll_out(self, votes: Iterator[LiveOpinion], kind: RolloutKind) -> canary.Ended:
        policy = self._policy.rollout
        # A champion that a canary proved is watched with the canary's share.
        return canary.run(votes, policy, kind=kind, per_day=policy.canary_share * self._per_day)

    def _seen(self, quality: Quality, *, to_all: bool) -> Quality:
        """What the pictures are worth to all together, or to one voter of the larger camp."""
        has_taste = self._has_taste or (self._is_divided and not to_all)
        return quality if has_taste else quality.without_taste()

    def _step(self, decision: str, truth: str = "", live: str = "") -> Step:
        return Step(self._condition.name, self._kind, decision, truth, live)


def compare(candidate: Quality, champion: Quality) -> str:
    """`worse`, `same` or `better` by their utility."""
    difference = candidate.utility - champion.utility
    if abs(difference) <= NOISE:
        return "same"
    return "better" if difference > 0 else "worse"
