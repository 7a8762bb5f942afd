from typing import Any

import pytest

from core.domain.guard import ArmWork
from core.domain.policy import RolloutPolicy
from core.domain.rollout import Arm, RolloutKind, RolloutOutcome
from core.domain.rollout_verdict import RolloutEvidence, Thumbs, decide, weigh
from tests.unit.core.domain.test_live_comparison import choice, thumb

POLICY = RolloutPolicy()
CANARY, WATCH = RolloutKind.CANARY, RolloutKind.WATCH


def outcome(kind: RolloutKind, *, age_days: float = 1.0, **evidence: Any) -> RolloutOutcome | None:
    ruling = decide(RolloutEvidence(**evidence), POLICY, kind=kind, age_days=age_days)
    return None if ruling is None else ruling.outcome


@pytest.mark.parametrize(
    ("evidence", "canary", "watch"),
    [
        ({}, None, None),
        ({"better": 19.9, "worse": 19.9}, None, None),
        ({"better": 20.0}, RolloutOutcome.PROMOTED, RolloutOutcome.KEPT),
        ({"worse": 20.0}, RolloutOutcome.ABORTED, RolloutOutcome.ROLLED_BACK),
        ({"worse": 20.0, "liked_less": 1.0}, None, None),
        ({"worse": 1.0, "liked_less": 39.0}, RolloutOutcome.ABORTED, RolloutOutcome.ROLLED_BACK),
        ({"age_days": 7.0}, None, RolloutOutcome.KEPT),
        ({"age_days": 14.0}, RolloutOutcome.ABORTED, RolloutOutcome.KEPT),
        ({"better": 30.0, "challenger_work": ArmWork(jobs=40, failed=20), "incumbent_work": ArmWork(jobs=40)},
         RolloutOutcome.ABORTED, RolloutOutcome.ROLLED_BACK),
    ],
)  # fmt: skip
def test_what_ends_a_rollout(
    evidence: dict[str, Any], canary: RolloutOutcome | None, watch: RolloutOutcome | None
) -> None:
    assert (outcome(CANARY, **evidence), outcome(WATCH, **evidence)) == (canary, watch)


def test_reasons_have_numbers() -> None:
    evidence = RolloutEvidence(opinions=7, users=3, wins=9, losses=1, better=25.0)
    ruling = decide(evidence, POLICY, kind=CANARY, age_days=1)
    assert ruling is not None
    assert ruling.reason == (
        "The challenger is better: 9 comparisons won and 1 lost; evidence 25 of 20 needed, from 3 users."
    )
    late = decide(RolloutEvidence(opinions=7), POLICY, kind=CANARY, age_days=14.2)
    assert late is not None
    assert (late.actor, late.reason) == ("clock", "Undecided: 7 live opinions in 14.2 days.")


def test_evidence_counts_what_was_said() -> None:
    said = [choice("a", "1"), choice("b", "2"), thumb("c", "3", Arm.CHALLENGER, True)]
    said += [thumb("d", "4", Arm.INCUMBENT, False), thumb("c", "5", Arm.CHALLENGER, False)]
    evidence = weigh(said, POLICY, recorded=Thumbs())
    assert (evidence.opinions, evidence.users, evidence.wins, evidence.losses) == (5, 4, 3, 0)
    assert (evidence.challenger_thumbs, evidence.incumbent_thumbs) == (Thumbs(count=2, likes=1), Thumbs(count=1))
    assert evidence.better > 1 > evidence.worse
    assert evidence.liked_less is None


def test_a_recorded_like_rate_is_a_yardstick() -> None:
    said = [thumb(f"user-{number}", str(number), Arm.CHALLENGER, False) for number in range(12)]
    assert weigh(said, POLICY, recorded=Thumbs(count=29, likes=20)).liked_less is None
    assert weigh(said, POLICY, recorded=Thumbs(count=300, likes=0)).liked_less is None
    evidence = weigh(said, POLICY, recorded=Thumbs(count=300, likes=210))
    assert evidence.liked_less is not None
    assert evidence.liked_less > 40
    assert outcome(WATCH, **dict(evidence)) is RolloutOutcome.ROLLED_BACK
