"""The wheel starts when the policy says so, once; every label counts in one update at most."""

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
from sqlalchemy import select

from core.domain.errors import Conflict, NotFound
from core.domain.evaluation import Decision
from core.domain.job import JobStatus
from core.domain.model_update import ModelUpdateStatus, UpdateTrigger
from core.domain.policy import RolloutPolicy, SelectionPolicy
from core.domain.update_plan import UpdatePlan
from core.infra.repository import model_update as update_rows
from core.infra.table import UserFeedback
from core.services import model_update as updates
from core.services import policy as policies
from core.services.tenant import create_tenant
from core.services.terms import Terms
from tests.learning_bench import LearningBench

Make = Callable[..., LearningBench]


def counted(bench: LearningBench) -> Counter[UUID | None]:
    with bench.database.transaction() as session:
        rows = session.scalars(
            select(UserFeedback.counted_in_update_id).where(UserFeedback.tenant_id == bench.tenant_id)
        )
        return Counter(rows)


def test_feedback_makes_an_update_due_and_everything_is_frozen_at_once(bench: LearningBench) -> None:
    said = bench.choose_many(5)
    assert bench.consider() is None
    [missing] = bench.look().decision.waiting_for
    assert missing.startswith("an occasion: 5 of 6 new labels")
    newest = bench.choose(user="user-9")
    update = bench.consider()
    assert update is not None
    assert (update.status, update.trigger) == (ModelUpdateStatus.PLANNED, UpdateTrigger.POLICY)
    assert update.triggered_by_feedback_id == newest and counted(bench) == {update.id: 6}
    assert update.reason["because"] == "6 new labels of 4 users, 6 are many"
    assert update.reason["counts"]["rows"] == 6 and update.reason["standing"]["new_labels"] == 6
    job = bench.job(update.job_id)
    plan = UpdatePlan.model_validate(job.plan)
    assert (job.kind, job.status) == ("model_update", JobStatus.QUEUED)
    assert (plan.update_id, plan.name, plan.adapter_version) == (update.id, "model-learned", 1)
    assert plan.training.dataset_digest == update.manifest_sha256
    with bench.database.transaction() as session:
        assert update_rows.looked_at(session, update_id=update.id) == {*said, newest}
        [begun] = updates.transitions_of(session, update)
        assert (begun.before, begun.after, begun.actor) == (None, "planned", "policy")
    assert bench.consider() is None
    assert bench.look().decision.waiting_for[0] == "0 of 4 new labels"


def test_comments_are_no_labels_but_are_counted_with_them(bench: LearningBench) -> None:
    bench.choose_many(5)
    bench.execute(
        "UPDATE user_feedback SET kind = 'comment', rejected_image_id = NULL, comment = 'x' WHERE user_ref = 'user-0'"
    )
    assert bench.look().standing.new_labels == 3
    bench.choose_many(3)
    update = bench.consider()
    assert update is not None and counted(bench) == {update.id: 8}
    assert update.reason["counts"]["excluded_by"] == {"comment": 2}


def test_two_that_look_at_once_start_one_update(bench: LearningBench) -> None:
    bench.choose_many(8)
    barrier = threading.Barrier(8)

    def look(_: int) -> UUID | None:
        barrier.wait()
        update = bench.consider()
        return update.id if update else None

    with ThreadPoolExecutor(8) as pool:
        found = [each for each in pool.map(look, range(8)) if each]
    assert len(found) == 1 and counted(bench) == {found[0]: 8}


def test_two_that_ask_at_once_start_one_update_and_one_is_told(bench: LearningBench) -> None:
    bench.choose_many(4)
    barrier = threading.Barrier(2)

    def ask(_: int) -> str:
        barrier.wait()
        try:
            return str(bench.trigger().trigger)
        except Conflict as error:
            return error.message

    with ThreadPoolExecutor(2) as pool:
        found = sorted(pool.map(ask, range(2)))
    assert found[1] == "hand" and found[0].startswith("No update can start now: an update is in flight since 20")


def test_fifty_writers_and_every_label_counts_once(make: Make) -> None:
    bench = make(many_new_labels=20, min_pairs=1)

    def write(number: int) -> None:
        for each in range(2):
            bench.choose(user=f"user-{number}", prompt=f"{number} {each}")
            update = bench.consider()
            if update is not None:  # it ends at once, so that the next can start
                bench.finish(bench.claim(), Decision.REJECT)

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(write, range(50)))
    last = bench.consider()
    if last is not None:
        bench.finish(bench.claim(), Decision.REJECT)
    found = counted(bench)
    waiting = found.pop(None, 0)
    assert sum(found.values()) + waiting == 100 and waiting < 20
    assert min(found.values()) >= 20 and len(found) >= 2


def test_too_little_after_the_rules_trains_nothing_and_is_not_tried_at_every_word(make: Make) -> None:
    bench = make(min_pairs=20, min_likes=20)
    bench.choose_many(8)
    assert bench.consider() is None
    assert counted(bench) == {None: 8}
    missing = "8 of 20 pairs and 0 of 20 likes and dislikes are left by the rules of selection"
    with bench.database.transaction() as session:
        kept = policies.selected_lately(session, **bench.pair)
    assert kept == {"missing": missing, "pairs": 8, "likes": 0, "again_at": 14}
    bench.choose_many(5)
    assert bench.consider() is None
    with bench.database.transaction() as session:
        assert policies.selected_lately(session, **bench.pair) == kept  # not looked at again
    bench.choose_many(7)
    update = bench.consider()
    assert update is not None and update.reason["counts"]["pairs"] == 20


def test_where_all_is_held_out_nothing_is_trained(make: Make) -> None:
    bench = make(selection=SelectionPolicy(held_out_share=1.0, max_user_share=1.0))
    bench.choose_many(6)
    assert bench.consider() is None
    assert bench.look().decision.waiting_for == ("opinions to train on: all 6 are held out",)
    with pytest.raises(Conflict, match="all 6 are held out"):
        bench.trigger()


def test_asked_by_hand_with_too_little_it_says_the_numbers(bench: LearningBench) -> None:
    bench.choose_many(3)
    with pytest.raises(Conflict, match="3 of 4 pairs and 0 of 4 likes and dislikes"):
        bench.trigger()
    bench.choose_many(1)
    update = bench.trigger()
    assert (update.trigger, update.reason["because"]) == ("hand", "asked for by hand")


def test_likes_alone_are_enough(bench: LearningBench) -> None:
    for number in range(6):
        bench.press(liked=number % 2 == 0, user=f"user-{number}", prompt=f"star {number}")
    update = bench.consider()
    assert update is not None
    assert (update.reason["counts"]["likes"], update.reason["counts"]["dislikes"]) == (3, 3)


def test_the_next_update_makes_the_next_version(bench: LearningBench) -> None:
    first = bench.champion()
    bench.choose_many(6)
    update = bench.consider()
    assert update is not None
    assert UpdatePlan.model_validate(bench.job(update.job_id).plan).adapter_version == first.version + 1


@pytest.mark.parametrize(
    ("status", "message", "ends", "reason"),
    [
        (JobStatus.FAILED, "A picture is gone.", ModelUpdateStatus.FAILED, "A picture is gone."),
        (JobStatus.CANCELED, None, ModelUpdateStatus.CANCELED, "Its job was canceled."),
        (JobStatus.EXPIRED, "The deadline passed.", ModelUpdateStatus.FAILED, "The deadline passed."),
    ],
)
def test_an_update_whose_job_ended_without_a_verdict_ends_too(
    bench: LearningBench, status: JobStatus, message: str | None, ends: ModelUpdateStatus, reason: str
) -> None:
    bench.choose_many(6)
    update = bench.consider()
    assert update is not None
    bench.ends(update.job_id, status, message)
    bench.upkeep()
    ended = bench.update(update.id)
    assert (ended.status, ended.outcome_reason) == (ends, reason) and ended.completed_at is not None
    bench.choose_many(6)
    assert bench.consider() is not None


def test_cancel_ends_what_waits_at_once_and_what_runs_when_its_worker_lets_go(bench: LearningBench) -> None:
    bench.choose_many(6)
    waiting = bench.consider()
    assert waiting is not None

    def cancel(update_id: UUID) -> str:
        with bench.database.transaction() as session:
            return updates.cancel(session, tenant_id=bench.tenant_id, update_id=update_id).status

    assert cancel(waiting.id) == ModelUpdateStatus.CANCELED
    assert bench.job(waiting.job_id).status == JobStatus.CANCELED
    assert cancel(waiting.id) == ModelUpdateStatus.CANCELED
    running = bench.trigger()
    bench.claim()
    assert cancel(running.id) == ModelUpdateStatus.PLANNED
    assert bench.job(running.job_id).cancel_requested
    bench.ends(running.job_id, JobStatus.CANCELED)
    bench.upkeep()
    assert bench.update(running.id).status == ModelUpdateStatus.CANCELED


def test_a_candidate_waits_for_a_person_who_lets_it_in_or_not(bench: LearningBench) -> None:
    bench.choose_many(6)
    update = bench.consider()
    assert update is not None
    adapter = bench.finish(bench.claim(), Decision.NEEDS_APPROVAL, "Few rows.")
    assert bench.update(update.id).status == ModelUpdateStatus.AWAITING_APPROVAL
    assert bench.update(update.id).decide_by is not None
    with bench.database.transaction() as session:
        approved = updates.approve(session, tenant_id=bench.tenant_id, update_id=update.id)
        assert approved.status == ModelUpdateStatus.CANARY
    assert bench.stages(adapter.id) == [(None, "candidate", "worker"), ("candidate", "canary", "person")]
    with bench.database.transaction() as session, pytest.raises(Conflict, match="is canary"):
        updates.approve(session, tenant_id=bench.tenant_id, update_id=update.id)
    with bench.database.transaction() as session:
        assert updates.reject(session, tenant_id=bench.tenant_id, update_id=update.id).status == "rejected"
    assert bench.adapter(update.id).stage == "rejected"
    with bench.database.transaction() as session, pytest.raises(Conflict, match="is rejected"):
        updates.reject(session, tenant_id=bench.tenant_id, update_id=update.id)


def test_where_no_canary_is_wanted_approval_promotes(make: Make) -> None:
    bench = make(rollout=RolloutPolicy(canary_share=0.0))
    bench.choose_many(6)
    update = bench.consider()
    assert update is not None
    bench.finish(bench.claim(), Decision.NEEDS_APPROVAL)
    with bench.database.transaction() as session:
        updates.approve(session, tenant_id=bench.tenant_id, update_id=update.id, reason="Looks good.")
    ended = bench.update(update.id)
    assert (ended.status, ended.outcome_reason) == ("promoted", "Looks good.")
    assert bench.adapter(update.id).stage == "champion"


def test_what_nobody_approves_in_time_is_rejected(bench: LearningBench) -> None:
    bench.choose_many(6)
    update = bench.consider()
    assert update is not None
    bench.finish(bench.claim(), Decision.NEEDS_APPROVAL)
    bench.upkeep()
    assert bench.update(update.id).status == ModelUpdateStatus.AWAITING_APPROVAL
    bench.execute("UPDATE model_update SET decide_by = now() - interval '1 second'")
    bench.upkeep()
    ended = bench.update(update.id)
    assert ended.status == ModelUpdateStatus.REJECTED
    assert ended.outcome_reason is not None and ended.outcome_reason.startswith("Nobody approved it until 20")
    assert bench.adapter(update.id).stage == "rejected"


def test_anothers_update_does_not_exist(bench: LearningBench) -> None:
    bench.choose_many(6)
    update = bench.consider()
    assert update is not None
    with bench.database.transaction() as session:
        stranger = create_tenant(session, name="stranger").id
    for verb in (updates.get, updates.approve, updates.reject, updates.cancel):
        with bench.database.transaction() as session, pytest.raises(NotFound):
            verb(session, tenant_id=stranger, update_id=update.id)
    with bench.database.transaction() as session, pytest.raises(NotFound):
        updates.trigger(
            session,
            tenant_id=stranger,
            model_id=bench.model_id,
            terms=Terms(tenant_id=stranger),
            queue=bench.queue,
            settings=bench.settings,
        )
