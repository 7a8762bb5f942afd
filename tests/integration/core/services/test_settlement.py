"""A verdict becomes true with the end of its job, or not at all."""

from datetime import timedelta

import pytest

from core.domain.errors import JobCanceled, OwnershipLost
from core.domain.evaluation import Decision
from core.domain.job import JobStatus
from core.domain.model_update import ModelUpdateStatus
from core.domain.outcome import Output
from core.domain.update_plan import UpdatePlan
from core.infra.repository import rollout as rollouts
from core.services import run as runs
from core.services import update_run
from core.services.run import Claim
from tests.learning_bench import REPORT, TRAINING_REPORT, LearningBench


def planned(bench: LearningBench) -> Claim:
    bench.choose_many(6)
    assert bench.consider() is not None
    return bench.claim()


@pytest.mark.parametrize(
    ("decision", "status", "stage"),
    [
        (Decision.PROMOTE, ModelUpdateStatus.PROMOTED, "champion"),
        (Decision.CANARY, ModelUpdateStatus.CANARY, "canary"),
        (Decision.REJECT, ModelUpdateStatus.REJECTED, "rejected"),
        (Decision.NEEDS_APPROVAL, ModelUpdateStatus.AWAITING_APPROVAL, "candidate"),
    ],
)
def test_each_verdict_is_carried_out(
    bench: LearningBench, decision: Decision, status: ModelUpdateStatus, stage: str
) -> None:
    claim = planned(bench)
    adapter = bench.finish(claim, decision, "Held-out accuracy 0.81.")
    update = bench.update(UpdatePlan.model_validate(claim.plan).update_id)
    assert (update.status, adapter.stage, adapter.version) == (status, stage, 1)
    assert bench.job(claim.job_id).status == JobStatus.SUCCEEDED
    assert update.verdict is not None and update.verdict["decision"] == decision
    assert update.report == REPORT.model_dump(mode="json")
    is_over = decision in (Decision.PROMOTE, Decision.REJECT)
    assert update.outcome_reason == ("Held-out accuracy 0.81." if is_over else None)
    assert bench.stages(adapter.id)[0] == (None, "candidate", "worker")
    with bench.database.transaction() as session:
        running = rollouts.running(session, **bench.pair)
        kind = {Decision.PROMOTE: "watch", Decision.CANARY: "canary"}.get(decision)
        assert (running and running.kind) == kind


def test_a_run_that_lost_its_claim_settles_nothing(bench: LearningBench) -> None:
    claim = planned(bench)
    bench.execute("UPDATE job SET lease_expires_at = now() - interval '1 second' WHERE id = :id", id=claim.job_id)
    bench.upkeep()
    with pytest.raises(OwnershipLost):
        bench.finish(claim, Decision.PROMOTE)
    update = bench.update(UpdatePlan.model_validate(claim.plan).update_id)
    assert (update.status, update.verdict) == (ModelUpdateStatus.PLANNED, None)
    with bench.database.transaction() as session:
        assert rollouts.champion(session, **bench.pair) is None


def test_a_candidate_with_withdrawn_feedback_never_serves(bench: LearningBench) -> None:
    claim = planned(bench)
    bench.execute("UPDATE model_update SET taken_back_at = now()")
    adapter = bench.finish(claim, Decision.PROMOTE)
    update = bench.update(UpdatePlan.model_validate(claim.plan).update_id)
    assert (update.status, adapter.stage) == (ModelUpdateStatus.CANCELED, "rejected")


def test_the_worker_shows_the_phase_and_a_resumed_run_does_not_go_back(bench: LearningBench) -> None:
    claim = planned(bench)
    plan = UpdatePlan.model_validate(claim.plan)

    def enter(phase: ModelUpdateStatus, held: Claim) -> str:
        with bench.database.transaction() as session:
            update_run.enter(session, held, phase, update_id=plan.update_id)
        return bench.update(plan.update_id).status

    assert enter(ModelUpdateStatus.TRAINING, claim) == "training"
    assert enter(ModelUpdateStatus.EVALUATING, claim) == "evaluating"
    with bench.database.transaction() as session:
        runs.give_back(session, claim, delay=timedelta(0))
    with pytest.raises(OwnershipLost):
        enter(ModelUpdateStatus.EVALUATING, claim)
    again = bench.claim()
    assert enter(ModelUpdateStatus.TRAINING, again) == "evaluating"
    bench.execute("UPDATE model_update SET taken_back_at = now()")
    with pytest.raises(JobCanceled):
        enter(ModelUpdateStatus.EVALUATING, again)


def test_the_worker_reads_what_was_frozen_and_who_serves(bench: LearningBench) -> None:
    champion = bench.champion()
    claim = planned(bench)
    plan = UpdatePlan.model_validate(claim.plan)
    with bench.database.transaction() as session:
        assert len(update_run.read_manifest(session, plan).rows) == 12
        bar = update_run.read_bar(session, claim, plan)
        assert bar.champion is not None and (bar.champion.id, bar.champion.version) == (str(champion.id), 1)
        assert (bar.raters, bar.defaults.width) == (3, 64)
        clean = plan.model_copy(update={"is_clean_retrain": True})
        assert update_run.read_bar(session, claim, clean).champion is None


def test_what_is_trained_is_found_by_the_next_run_and_no_other_may_say_so(bench: LearningBench) -> None:
    claim = planned(bench)
    update_id = UpdatePlan.model_validate(claim.plan).update_id
    file = Output(type="adapter", object_key="k", content_type="x", size_bytes=1, sha256="0" * 64)
    trained = update_run.Trained(report=TRAINING_REPORT, outputs=[file])
    with bench.database.transaction() as session:
        assert update_run.find_trained(session, update_id=update_id) is None
        update_run.keep_trained(session, claim, trained, update_id=update_id)
    with bench.database.transaction() as session:
        runs.give_back(session, claim, delay=timedelta(0))
    with bench.database.transaction() as session:
        assert update_run.find_trained(session, update_id=update_id) == trained
    with bench.database.transaction() as session, pytest.raises(OwnershipLost):
        update_run.keep_trained(session, claim, trained, update_id=update_id)
