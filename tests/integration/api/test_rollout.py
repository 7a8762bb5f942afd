"""Champions, canaries and rollbacks over HTTP, on the real servers; the worker's side by hand."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import pytest

from core.domain.errors import AdapterUnusable, Conflict
from core.domain.model_update import ModelUpdateStatus
from core.domain.outcome import Outcome, Output
from core.domain.policy import RolloutPolicy, UpdatePolicy
from core.domain.rollout import Arm
from core.domain.rollout_verdict import Ruling
from core.infra.repository import policy as policies
from core.infra.table import Adapter, Job, ModelUpdate
from core.services import live_test
from core.services import rollout as rollouts
from core.services import run as runs
from core.services.rollout import start_canary
from tests.api_bench import Tenancy
from tests.integration.api.test_generation import import_adapter

CHALLENGER, INCUMBENT = Arm.CHALLENGER.value, Arm.INCUMBENT.value


def promote(tenant: Tenancy, adapter: dict[str, Any], **body: Any) -> Any:
    return tenant.post(f"/api/adapters/{adapter['id']}/promote", **({"json": body} if body else {}))


def roll_back(tenant: Tenancy, adapter: dict[str, Any], **body: Any) -> Any:
    return tenant.post(f"/api/adapters/{adapter['id']}/rollback", **({"json": body} if body else {}))


def stage(tenant: Tenancy, adapter: dict[str, Any]) -> str:
    return str(tenant.get(f"/api/adapters/{adapter['id']}").json()["stage"])


def plan(tenant: Tenancy, **request: Any) -> dict[str, Any]:
    answer = tenant.generate(**request)
    assert answer.status_code == 202, answer.text
    return tenant.claim().plan


def no_watch(tenant: Tenancy, model_id: UUID, **rollout: Any) -> None:
    set_policy(tenant, model_id, **({"watch_days": 0} | rollout))


def set_policy(tenant: Tenancy, model_id: UUID, **rollout: Any) -> None:
    policy = UpdatePolicy(rollout=RolloutPolicy(**rollout)).model_dump(mode="json")
    with tenant.runtime.database.transaction() as session:
        policies.put(session, policy, tenant_id=tenant.id, model_id=model_id)


def canary(tenant: Tenancy, adapter: dict[str, Any], *, update: UUID | None = None, **policy: Any) -> None:
    with tenant.runtime.database.transaction() as session:
        start_canary(
            session,
            adapter=session.get_one(Adapter, UUID(adapter["id"])),
            update=session.get_one(ModelUpdate, update) if update else None,
            policy=RolloutPolicy(**policy),
            actor="worker",
            reason="the gates were passed",
        )


def add_update(tenant: Tenancy, model_id: UUID, adapter: dict[str, Any], **fields: Any) -> UUID:
    """An update in flight that made an adapter, as its job leaves it."""
    with tenant.runtime.database.transaction() as session:
        update = ModelUpdate(
            tenant_id=tenant.id, stable_diffusion_id=model_id, **({"status": ModelUpdateStatus.EVALUATING} | fields)
        )
        session.add(update)
        session.flush()
        session.get_one(Adapter, UUID(adapter["id"])).model_update_id = update.id
        return update.id


def status(tenant: Tenancy, update: UUID) -> str:
    with tenant.runtime.database.transaction() as session:
        return session.get_one(ModelUpdate, update).status


def look(tenant: Tenancy, model_id: UUID) -> Ruling | None:
    with tenant.runtime.database.transaction() as session:
        return live_test.look(session, tenant_id=tenant.id, model_id=model_id)


def draw(tenant: Tenancy, **request: Any) -> list[dict[str, Any]]:
    """Pictures of a request that names no adapter, stored as a worker stores them."""
    job = tenant.generate(**request).json()["id"]
    claim = tenant.claim()
    arms = (claim.plan["assignment"] or {"arms": [None] * claim.plan["num_images"]})["arms"]
    rollout = claim.plan["assignment"] and UUID(claim.plan["assignment"]["rollout_id"])
    outputs = [
        Output(
            type="image",
            object_key=f"job/{claim.job_id}/1/output/{index}.png",
            content_type="image/png",
            size_bytes=1,
            sha256="0" * 64,
            rollout_id=rollout or None,
            arm=Arm(arm) if arm else None,
        )
        for index, arm in enumerate(arms)
    ]
    tenant.finish(claim, Outcome(outputs=outputs))
    images = tenant.get(f"/api/jobs/{job}").json()["outputs"]
    return [image | {"arm": arm} for image, arm in zip(images, arms, strict=True)]


def choose(tenant: Tenancy, user: str, winner: str) -> None:
    """A user asks for two pictures and chooses that of the arm `winner`."""
    sides = {image["arm"]: image["id"] for image in draw(tenant, num_images=2, user_ref=user)}
    [loser] = set(sides) - {winner}
    body = {"kind": "choice", "chosen": sides[winner], "rejected": sides[loser], "user_ref": user}
    answer = tenant.post("/api/feedback", json=body)
    assert answer.status_code == 201, answer.text


def test_the_champion_serves_those_who_name_no_adapter(tenant: Tenancy, model_id: UUID) -> None:
    no_watch(tenant, model_id)
    adapter = import_adapter(tenant)
    assert plan(tenant)["adapters"] == []
    shown = promote(tenant, adapter, reason="it looks good")
    assert (shown.status_code, shown.json()["stage"]) == (200, "champion")
    [served] = plan(tenant)["adapters"]
    assert (served["id"], served["weight"], served["text_encoder_weight"]) == (adapter["id"], 1.0, 1.0)
    assert plan(tenant, adapters=[])["adapters"] == []
    assert plan(tenant, adapters=None)["adapters"] == [served]
    assert plan(tenant, adapters=[{"ref": "style@champion", "weight": 0.5}])["adapters"][0]["weight"] == 0.5
    assert plan(tenant)["assignment"] is None


def test_a_champion_serves_its_own_tenant_and_base_model_only(
    tenant: Tenancy, stranger: Tenancy, model_id: UUID
) -> None:
    no_watch(tenant, model_id)
    promote(tenant, import_adapter(tenant))
    tenant.register_model("twin")
    assert plan(tenant, model="twin")["adapters"] == []
    assert plan(stranger)["adapters"] == []
    assert len(plan(tenant)["adapters"]) == 1


def test_a_user_stays_in_the_request_and_out_of_the_receipt(tenant: Tenancy, model_id: UUID) -> None:
    job = tenant.generate(user_ref="someone").json()["id"]
    claim = tenant.claim()
    assert "someone" not in str(claim.plan)
    with tenant.runtime.database.transaction() as session:
        assert session.get_one(Job, UUID(job)).spec["user_ref"] == "someone"
    assert tenant.generate(user_ref="").status_code == 422
    assert tenant.generate(user_ref="x" * 201).status_code == 422


def test_a_canary_gets_its_share_and_users_stay_on_a_side(tenant: Tenancy, model_id: UUID) -> None:
    first, second = import_adapter(tenant), import_adapter(tenant)
    no_watch(tenant, model_id)
    promote(tenant, first)
    canary(tenant, second, canary_share=0.4)
    arms: dict[str, set[str]] = {}
    for number in range(2 * 40):
        made = plan(tenant, user_ref=f"user-{number % 40}")
        assert [each["id"] for each in made["adapters"]] == [first["id"]]
        assert [each["id"] for each in made["assignment"]["challenger"]] == [second["id"]]
        arms.setdefault(f"user-{number % 40}", set()).update(made["assignment"]["arms"])
    assert all(len(seen) == 1 for seen in arms.values())
    counts = Counter(arm for seen in arms.values() for arm in seen)
    assert 6 <= counts[CHALLENGER] <= 26, "16 of 40 are expected; five standard deviations"


def test_two_pictures_are_shown_side_by_side_in_an_order_that_is_kept(tenant: Tenancy, model_id: UUID) -> None:
    canary(tenant, import_adapter(tenant), canary_share=1.0)
    orders = [tuple(plan(tenant, num_images=2, user_ref="one")["assignment"]["arms"]) for _ in range(20)]
    assert set(orders) == {(CHALLENGER, INCUMBENT), (INCUMBENT, CHALLENGER)}
    assert Counter(plan(tenant, num_images=5)["assignment"]["arms"]) == {CHALLENGER: 2, INCUMBENT: 3}
    images = draw(tenant, num_images=2)
    assert {image["arm"] for image in images} == {CHALLENGER, INCUMBENT}
    assert tenant.get(f"/api/images/{images[0]['id']}").json()["arm"] == images[0]["arm"]


def test_those_who_name_adapters_take_no_part(tenant: Tenancy, model_id: UUID) -> None:
    canary(tenant, import_adapter(tenant), canary_share=1.0)
    assert plan(tenant, adapters=[])["assignment"] is None
    assert plan(tenant, adapters=[{"ref": "style@1"}])["assignment"] is None


def test_a_forced_champion_is_watched_against_its_predecessor(tenant: Tenancy, model_id: UUID) -> None:
    first, second = import_adapter(tenant), import_adapter(tenant)
    promote(tenant, first)
    shown = tenant.get(f"/api/models/{model_id}/rollout").json()
    assert (shown["kind"], shown["incumbent"], shown["share"]) == ("watch", None, 0.3)
    promote(tenant, second)
    shown = tenant.get(f"/api/models/{model_id}/rollout").json()
    assert (shown["challenger"]["ref"], shown["incumbent"]["ref"]) == ("style@2", "style@1")
    made = [plan(tenant, user_ref=f"user-{number}")["assignment"]["arms"][0] for number in range(40)]
    assert Counter(made)[CHALLENGER] > Counter(made)[INCUMBENT] > 0


def test_promotion_and_rollback_leave_their_reasons(tenant: Tenancy, model_id: UUID) -> None:
    no_watch(tenant, model_id)
    first, second = import_adapter(tenant), import_adapter(tenant)
    promote(tenant, first)
    assert promote(tenant, second, reason="brighter").json()["stage"] == "champion"
    assert stage(tenant, first) == "retired"
    assert roll_back(tenant, second, reason="too bright").json()["stage"] == "rejected"
    assert stage(tenant, first) == "champion"
    moves = tenant.get(f"/api/adapters/{second['id']}/transitions").json()["items"]
    assert [(each["before"], each["after"], each["actor"], each["reason"]) for each in moves] == [
        ("champion", "rejected", "person", "too bright"),
        ("available", "champion", "person", "brighter"),
    ]
    [latest, *_] = tenant.get(f"/api/adapters/{first['id']}/transitions?limit=1").json()["items"]
    assert latest["reason"] == "style@2 was rolled back: too bright"
    assert roll_back(tenant, first).json()["stage"] == "rejected"
    assert plan(tenant)["adapters"] == [], "before the first there was the bare base"


def test_a_rollback_goes_back_over_those_that_were_rolled_back(tenant: Tenancy, model_id: UUID) -> None:
    no_watch(tenant, model_id)
    one, two, three = (import_adapter(tenant) for _ in range(3))
    for adapter in (one, two, three):
        promote(tenant, adapter)
    roll_back(tenant, three)
    roll_back(tenant, two)
    assert [stage(tenant, each) for each in (one, two, three)] == ["champion", "rejected", "rejected"]


def test_an_adapter_with_withdrawn_feedback_never_serves_again(tenant: Tenancy, model_id: UUID) -> None:
    no_watch(tenant, model_id)
    one, two, three = (import_adapter(tenant) for _ in range(3))
    for adapter in (one, two, three):
        promote(tenant, adapter)
    update = add_update(tenant, model_id, two, status=ModelUpdateStatus.PROMOTED)
    with tenant.runtime.database.transaction() as session:
        row = session.get_one(ModelUpdate, update)
        row.taken_back_at = row.created_at
    roll_back(tenant, three)
    assert stage(tenant, one) == "champion"
    refused = promote(tenant, two)
    assert (refused.status_code, "withdrawn" in refused.json()["detail"]) == (409, True)


@pytest.mark.parametrize("place", ["champion", "available", "rejected"])
def test_what_cannot_be_moved_is_a_conflict_that_says_why(tenant: Tenancy, model_id: UUID, place: str) -> None:
    adapter = import_adapter(tenant)
    if place != "available":
        promote(tenant, adapter)
    if place == "rejected":
        roll_back(tenant, adapter)
    refused = promote(tenant, adapter) if place == "champion" else roll_back(tenant, adapter)
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert place in refused.json()["detail"]


@pytest.mark.parametrize("body", [{"reason": ""}, {"reason": "x" * 2001}, {"reason": 5}, {"why": "x"}, []])
def test_a_wrong_reason_is_refused(tenant: Tenancy, model_id: UUID, body: Any) -> None:
    adapter = import_adapter(tenant)
    assert tenant.post(f"/api/adapters/{adapter['id']}/promote", json=body).status_code == 422
    assert stage(tenant, adapter) == "available"


def test_without_a_rollout_there_is_none_to_show(tenant: Tenancy, model_id: UUID) -> None:
    assert tenant.get(f"/api/models/{model_id}/rollout").status_code == 404
    assert tenant.get(f"/api/models/{uuid4()}/rollout").status_code == 404


def test_many_who_promote_at_once_leave_one_champion(tenant: Tenancy, model_id: UUID) -> None:
    adapters = [import_adapter(tenant) for _ in range(4)]
    calls = [(adapter, move) for adapter in adapters for move in (promote, roll_back)] * 2
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda call: call[1](tenant, call[0]), calls))
    assert {answer.status_code for answer in answers} <= {200, 409}
    stages = Counter(stage(tenant, adapter) for adapter in adapters)
    assert stages["champion"] <= 1
    assert set(stages) <= {"champion", "retired", "rejected", "available"}
    served = plan(tenant)["assignment"] or {"challenger": plan(tenant)["adapters"]}
    assert len(served["challenger"]) <= 1


def test_requests_during_promotions_see_one_champion_each(tenant: Tenancy, model_id: UUID) -> None:
    no_watch(tenant, model_id)
    adapters = [import_adapter(tenant) for _ in range(3)]
    promote(tenant, adapters[0])

    named: dict[str, Any] = {"adapters": [{"ref": "style@champion"}]}

    def work(number: int) -> int:
        if number % 4 == 0:
            return int(promote(tenant, adapters[number // 4 % 3]).status_code)
        return int(tenant.generate(**(named if number % 2 else {})).status_code)

    with ThreadPoolExecutor(8) as pool:
        codes = Counter(pool.map(work, range(40)))
    assert set(codes) <= {200, 202, 409}
    plans = [tenant.claim().plan for _ in range(codes[202])]
    assert all(len(made["adapters"]) == 1 for made in plans)


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
    assert (evidence["losses"], evidence["users"]) == (10, 1)
    assert 1 < evidence["worse"] < 11


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


def test_a_person_may_put_another_in_while_a_canary_runs(tenant: Tenancy, model_id: UUID) -> None:
    tried, chosen = import_adapter(tenant), import_adapter(tenant)
    update = add_update(tenant, model_id, tried)
    canary(tenant, tried, update=update)
    promote(tenant, chosen)
    assert (stage(tenant, tried), stage(tenant, chosen)) == ("retired", "champion")
    assert status(tenant, update) == "rejected"


def test_a_person_may_promote_or_abort_a_canary(tenant: Tenancy, model_id: UUID) -> None:
    adapter = import_adapter(tenant)
    update = add_update(tenant, model_id, adapter)
    canary(tenant, adapter, update=update)
    promote(tenant, adapter)
    assert (stage(tenant, adapter), status(tenant, update)) == ("champion", "promoted")
    other = import_adapter(tenant)
    update = add_update(tenant, model_id, other)
    canary(tenant, other, update=update)
    assert roll_back(tenant, other).json()["stage"] == "rejected"
    assert (status(tenant, update), stage(tenant, adapter)) == ("rejected", "champion")


def test_a_policy_without_a_canary_promotes_at_once(tenant: Tenancy, model_id: UUID) -> None:
    adapter = import_adapter(tenant)
    update = add_update(tenant, model_id, adapter)
    canary(tenant, adapter, update=update, canary_share=0.0)
    assert (stage(tenant, adapter), status(tenant, update)) == ("champion", "promoted")


def test_an_adapter_of_a_rollout_stays(tenant: Tenancy, model_id: UUID) -> None:
    first, second = import_adapter(tenant), import_adapter(tenant)
    promote(tenant, first)
    promote(tenant, second)
    job = tenant.generate().json()
    refused = tenant.call("DELETE", f"/api/adapters/{second['id']}")
    assert (refused.status_code, "A job" in refused.json()["detail"]) == (409, True)
    tenant.post(job["urls"]["cancel"])
    for adapter, reason in ((first, "live comparison"), (second, "champion")):
        refused = tenant.call("DELETE", f"/api/adapters/{adapter['id']}")
        assert (refused.status_code, reason in refused.json()["detail"]) == (409, True)


def test_the_verbs_say_what_is_wrong(tenant: Tenancy, model_id: UUID) -> None:
    adapter = import_adapter(tenant)
    with tenant.runtime.database.transaction() as session:
        row = session.get_one(Adapter, UUID(adapter["id"]))
        with pytest.raises(Conflict, match="is available; only a champion or a canary"):
            rollouts.roll_back(session, adapter=row, actor="person", reason="x")
