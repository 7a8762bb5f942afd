"""What was withdrawn is out of what serves: by an update without it, or by the base."""

from collections.abc import Callable
from uuid import UUID

import pytest
from sqlalchemy import select

from core.domain.evaluation import Decision
from core.domain.job import JobStatus
from core.domain.preference import PreferenceManifest
from core.domain.update_plan import UpdatePlan
from core.infra.repository import model_update as update_rows
from core.infra.repository import rollout as rollouts
from core.infra.table import Adapter, ModelUpdate
from core.services import selection as selections
from tests.learning_bench import LearningBench

Make = Callable[..., LearningBench]


def champion(bench: LearningBench) -> Adapter | None:
    with bench.database.transaction() as session:
        return rollouts.champion(session, **bench.pair)


def newest(bench: LearningBench) -> ModelUpdate:
    with bench.database.transaction() as session:
        return session.scalars(select(ModelUpdate).order_by(ModelUpdate.created_at.desc()).limit(1)).one()


def manifest(bench: LearningBench, update_id: UUID) -> PreferenceManifest:
    with bench.database.transaction() as session:
        return selections.read_manifest(session, update_id=update_id)


@pytest.mark.parametrize("decision", [Decision.PROMOTE, Decision.REJECT])
def test_a_champion_is_made_again_without_it(bench: LearningBench, decision: Decision) -> None:
    first = bench.champion()
    bench.choose_many(3, users=9)  # said later, and no part of what the first update looked at
    bench.withdraw("user-1")
    bench.upkeep()
    update = newest(bench)
    assert (update.trigger, update.replaces_update_id) == ("withdrawal", first.model_update_id)
    assert update.reason["counts"]["rows"] == 4
    assert UpdatePlan.model_validate(bench.job(update.job_id).plan).is_clean_retrain
    bench.upkeep()
    assert newest(bench).id == update.id and champion(bench) is not None
    second = bench.finish(bench.claim(), decision, "The numbers.")
    bench.upkeep()
    serving = champion(bench)
    assert (serving and serving.id) == (second.id if decision is Decision.PROMOTE else None)
    assert bench.adapter(first.model_update_id or UUID(int=0)).stage in ("retired", "rejected")
    assert bench.update(first.model_update_id or UUID(int=0)).clean_by is None
    with bench.database.transaction() as session:
        assert rollouts.running(session, **bench.pair) is None  # nothing is compared with what must not serve


def test_the_manifest_is_what_it_would_have_been(make: Make) -> None:
    """Two tenants say the same, but for one user, who never spoke to the second."""
    manifests = []
    for users in (("anna", "ben", "eve"), ("anna", "ben")):
        bench = make()
        for number in range(12):
            user = ("anna", "ben", "eve")[number % 3]
            if user in users:
                bench.choose(user=user, prompt=f"star number {number}", content=f"star number {number}")
        update = bench.trigger()
        if "eve" in users:
            bench.finish(bench.claim(), Decision.PROMOTE)
            bench.withdraw("eve")
            bench.upkeep()
            update = newest(bench)
        manifests.append(manifest(bench, update.id))
        plan = UpdatePlan.model_validate(bench.job(update.job_id).plan)
        assert plan.training.dataset_digest == manifests[-1].digest
    assert len(manifests[0].rows) == 8 and manifests[0].digest == manifests[1].digest


def test_where_too_little_is_left_the_base_serves_again(bench: LearningBench) -> None:
    first = bench.champion()
    for user in ("user-0", "user-1"):
        bench.withdraw(user)
    bench.upkeep()
    assert champion(bench) is None
    [*_, (before, after, actor)] = bench.stages(first.id)
    assert (before, after, actor) == ("champion", "rejected", "withdrawal")
    assert newest(bench).clean_by is None and newest(bench).id == first.model_update_id


def test_an_update_at_work_is_canceled_and_made_again(bench: LearningBench) -> None:
    bench.choose_many(9)
    update = bench.consider()
    assert update is not None
    bench.claim()
    bench.withdraw("user-2")
    bench.upkeep()
    assert bench.job(update.job_id).cancel_requested and newest(bench).id == update.id
    bench.ends(update.job_id, JobStatus.CANCELED)
    bench.upkeep()
    again = newest(bench)
    assert (again.replaces_update_id, bench.update(update.id).status) == (update.id, "canceled")
    plan = UpdatePlan.model_validate(bench.job(again.job_id).plan)
    assert not plan.is_clean_retrain and again.reason["counts"]["rows"] == 6


@pytest.mark.parametrize("decision", [Decision.NEEDS_APPROVAL, Decision.CANARY])
def test_a_candidate_or_canary_goes_and_is_made_again(bench: LearningBench, decision: Decision) -> None:
    bench.choose_many(9)
    update = bench.consider()
    assert update is not None
    bench.finish(bench.claim(), decision)
    bench.withdraw("user-2")
    bench.upkeep()
    assert bench.adapter(update.id).stage == "rejected"
    assert newest(bench).replaces_update_id == update.id


def test_a_replacement_that_holds_withdrawn_feedback_is_replaced_itself(bench: LearningBench) -> None:
    bench.choose_many(15, users=5)
    first = bench.consider()
    assert first is not None
    tainted = bench.finish(bench.claim(), Decision.PROMOTE)
    bench.withdraw("user-0")
    bench.upkeep()
    second = newest(bench)
    bench.withdraw("user-1")
    bench.upkeep()  # it waits for no worker, so it is canceled at once
    bench.upkeep()
    third = newest(bench)
    assert (third.replaces_update_id, third.reason["counts"]["rows"]) == (second.id, 9)
    assert UpdatePlan.model_validate(bench.job(third.job_id).plan).is_clean_retrain
    clean = bench.finish(bench.claim(), Decision.PROMOTE)
    bench.upkeep()
    serving = champion(bench)
    assert serving is not None and serving.id == clean.id
    assert bench.adapter(first.id).stage == "retired" and tainted.id != clean.id
    assert [bench.update(each.id).clean_by for each in (first, second)] == [None, None]


def test_by_the_deadline_at_the_latest_it_serves_no_more(bench: LearningBench) -> None:
    bench.champion()
    bench.choose_many(6)
    other = bench.consider()  # keeps the place that a clean update would need
    assert other is not None
    bench.claim()
    bench.withdraw("user-1")
    bench.execute("UPDATE model_update SET taken_back_at = NULL, clean_by = NULL WHERE id = :id", id=other.id)
    bench.upkeep()
    assert champion(bench) is not None
    bench.execute("UPDATE model_update SET clean_by = now() - interval '1 second' WHERE clean_by IS NOT NULL")
    bench.upkeep()
    assert champion(bench) is None
    assert bench.update(other.id).status == "planned"


@pytest.mark.parametrize("whose", ["settings", "tenant"])
def test_a_used_up_quota_lets_it_wait_and_no_longer_than_the_deadline(bench: LearningBench, whose: str) -> None:
    first = bench.champion()
    bench.withdraw("user-1")
    bench.quota(0.001, whose=whose)
    bench.upkeep()
    assert newest(bench).id == first.model_update_id and champion(bench) is not None
    with bench.database.transaction() as session:
        assert update_rows.in_flight(session, **bench.pair) is None
    bench.quota(1e9, whose=whose)
    bench.upkeep()
    assert newest(bench).replaces_update_id == first.model_update_id
    bench.quota(0.001, whose=whose)
    bench.withdraw("user-2")  # the one that waits is canceled, and for another there is no time
    bench.upkeep()
    bench.upkeep()
    assert (newest(bench).replaces_update_id, newest(bench).status) == (first.model_update_id, "canceled")
    assert champion(bench) is not None
    bench.execute("UPDATE model_update SET clean_by = now() - interval '1 second' WHERE clean_by IS NOT NULL")
    bench.upkeep()
    assert champion(bench) is None
