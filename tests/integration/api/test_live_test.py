"""Live opinions end a rollout, on the real servers."""

from uuid import UUID

from sqlalchemy import func

from core.domain.errors import AdapterUnusable
from core.domain.model_update import ModelUpdateStatus
from core.domain.outcome import Outcome
from core.domain.policy import RolloutPolicy
from core.infra.table import ModelUpdate
from core.services import run as runs
from core.services.upkeep import erase_taken_back
from tests.api_bench import Tenancy
from tests.integration.api.test_generation import import_adapter
from tests.rollout_bench import (
    CHALLENGER,
    INCUMBENT,
    add_update,
    canary,
    choose,
    draw,
    look,
    no_watch,
    plan,
    promote,
    set_policy,
    stage,
    status,
)


def test_choices_promote_a_canary_and_its_update(tenant: Tenancy, model_id: UUID) -> None:
    adapter = import_adapter(tenant)
    update = add_update(tenant, model_id, adapter)
    canary(tenant, adapter, update=update, canary_share=1.0)
    assert (stage(tenant, adapter), status(tenant, update)) == ("canary", "canary")
    assert look(tenant, model_id) is None
    for number in range(9):
        choose(tenant, f"user-{number}", CHALLENGER)
    ruling = look(tenant, model_id)
    assert ruling is not None
    assert "9 comparisons won and 0 lost" in ruling.reason
    assert (stage(tenant, adapter), status(tenant, update)) == ("champion", "promoted")
    watch = tenant.get(f"/api/models/{model_id}/rollout").json()
    assert (watch["kind"], watch["outcome"], watch["incumbent"], watch["share"]) == ("watch", None, None, 1.0)
    assert watch["model_update_id"] == str(update)


def test_choices_abort_a_canary_and_its_update(tenant: Tenancy, model_id: UUID) -> None:
    champion, adapter = import_adapter(tenant), import_adapter(tenant)
    no_watch(tenant, model_id)
    promote(tenant, champion)
    update = add_update(tenant, model_id, adapter)
    canary(tenant, adapter, update=update, canary_share=1.0)
    for number in range(9):
        choose(tenant, f"user-{number}", INCUMBENT)
    assert look(tenant, model_id) is not None
    assert (stage(tenant, adapter), status(tenant, update)) == ("rejected", "rejected")
    shown = tenant.get(f"/api/models/{model_id}/rollout").json()
    assert (shown["outcome"], shown["evidence"]["losses"]) == ("aborted", 9)
    assert plan(tenant)["assignment"] is None
    assert plan(tenant)["adapters"][0]["id"] == champion["id"]


def test_one_user_decides_nothing(tenant: Tenancy, model_id: UUID) -> None:
    canary(tenant, import_adapter(tenant), canary_share=1.0)
    for _ in range(14):
        choose(tenant, "hostile", INCUMBENT)
    assert look(tenant, model_id) is None
    evidence = tenant.get(f"/api/models/{model_id}/rollout").json()["evidence"]
    assert (evidence["losses"], evidence["users"]) == (RolloutPolicy().max_per_user, 1)
    assert 1 < evidence["worse"] < 2


def test_thumbs_roll_a_bad_champion_back(tenant: Tenancy, model_id: UUID) -> None:
    no_watch(tenant, model_id)
    good, bad = import_adapter(tenant), import_adapter(tenant)
    promote(tenant, good)
    set_policy(tenant, model_id, watch_share=0.5)
    promote(tenant, bad)
    for number in range(40):
        user = f"user-{number}"
        [image] = draw(tenant, user_ref=user)
        body = {"kind": "thumb", "image_id": image["id"], "liked": image["arm"] == INCUMBENT, "user_ref": user}
        assert tenant.post("/api/feedback", json=body).status_code == 201
    ruling = look(tenant, model_id)
    assert ruling is not None
    assert (stage(tenant, good), stage(tenant, bad)) == ("champion", "rejected")
    assert tenant.get(f"/api/models/{model_id}/rollout").json()["outcome"] == "rolled_back"


def test_the_files_of_what_a_watch_compares_with_stay_until_it_has_ended(tenant: Tenancy, model_id: UUID) -> None:
    no_watch(tenant, model_id)
    good, newer = import_adapter(tenant), import_adapter(tenant)
    update = add_update(tenant, model_id, good, status=ModelUpdateStatus.PROMOTED)
    promote(tenant, good)
    set_policy(tenant, model_id, watch_share=0.5)
    promote(tenant, newer)
    with tenant.runtime.database.transaction() as session:
        session.get_one(ModelUpdate, update).taken_back_at = func.now()
    assert (stage(tenant, good), erased(tenant)) == ("retired", 0)
    look(tenant, model_id)
    assert erased(tenant) == 1


def erased(tenant: Tenancy) -> int:
    with tenant.runtime.database.transaction() as session:
        return erase_taken_back(session, store=tenant.runtime.store)


def test_a_canary_without_traffic_ends_undecided(tenant: Tenancy, model_id: UUID) -> None:
    adapter = import_adapter(tenant)
    update = add_update(tenant, model_id, adapter)
    canary(tenant, adapter, update=update, max_days=1e-9)
    assert look(tenant, model_id) is not None
    assert (stage(tenant, adapter), status(tenant, update)) == ("rejected", "rejected")
    shown = tenant.get(f"/api/models/{model_id}/rollout").json()
    assert (shown["outcome"], shown["reason"]) == ("aborted", "Undecided: 0 live opinions in 0.0 days.")


def test_a_watch_that_finds_no_fault_ends(tenant: Tenancy, model_id: UUID) -> None:
    adapter = import_adapter(tenant)
    no_watch(tenant, model_id, watch_days=1e-9)
    promote(tenant, adapter)
    assert look(tenant, model_id) is not None
    assert (stage(tenant, adapter), look(tenant, model_id)) == ("champion", None)


def test_failing_jobs_abort_a_canary(tenant: Tenancy, model_id: UUID) -> None:
    adapter = import_adapter(tenant)
    canary(tenant, adapter, canary_share=0.5)
    for _ in range(90):
        assert tenant.generate().status_code == 202
        claim = tenant.claim()
        if CHALLENGER in claim.plan["assignment"]["arms"]:
            with tenant.runtime.database.transaction() as session:
                runs.fail(session, claim, AdapterUnusable("it does not load"))
        else:
            tenant.finish(claim, Outcome())
    assert look(tenant, model_id) is not None
    shown = tenant.get(f"/api/models/{model_id}/rollout").json()
    assert shown["outcome"] == "aborted"
    assert "jobs with the challenger failed, and 0 of" in shown["reason"]
