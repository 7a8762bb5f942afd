"""What serves a request over HTTP: the champion, or a side of a comparison."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

from core.infra.table import Job
from tests.api_bench import Tenancy
from tests.integration.api.test_generation import import_adapter
from tests.rollout_bench import (
    CHALLENGER,
    INCUMBENT,
    canary,
    draw,
    no_watch,
    plan,
    promote,
)


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
