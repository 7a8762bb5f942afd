"""Model updates over HTTP: feedback starts one, people follow it, and let its candidate serve or not."""

from html.parser import HTMLParser
from typing import Any
from uuid import UUID, uuid4

import pytest

from core.domain.base_model import ModelFamily
from core.domain.evaluation import Decision
from core.domain.job import JobKind
from core.domain.outcome import Outcome, Output
from core.infra.table import StableDiffusion
from core.services import update_run
from core.services.model_update import consider
from core.services.run import Claim
from core.services.update_run import Trained
from tests.api_bench import Tenancy
from tests.learning_bench import TRAINING_REPORT, file_of, outcome_of

POLICY: dict[str, Any] = {
    "min_new_labels": 4,
    "many_new_labels": 4,
    "min_users": 2,
    "cooldown_hours": 0,
    "min_pairs": 4,
    "min_likes": 4,
    "approval_below": 0,
    "selection": {"max_user_share": 1.0, "held_out_share": 0.0},
    "recipe": {"rank": 4, "target_modules": ["to_q"]},
}


@pytest.fixture(autouse=True)
def _policy(tenant: Tenancy, model_id: UUID) -> None:
    assert tenant.call("PUT", f"/api/models/{model_id}/policy", json=POLICY).status_code == 200


def choose(tenant: Tenancy, count: int = 4) -> list[str]:
    """So many choices of two users, each on a prompt of its own."""
    said = []
    for number in range(count):
        first, second = tenant.draw_several(count=2, prompt=f"star {number}", num_images=2)
        body = {"kind": "choice", "chosen": first["id"], "rejected": second["id"], "user_ref": f"user-{number % 2}"}
        answer = tenant.post("/api/feedback", json=body)
        assert answer.status_code == 201, answer.json()
        said.append(answer.json()["id"])
    return said


def the_update(tenant: Tenancy) -> Any:
    [update] = tenant.get("/api/model-updates").json()["items"]
    return update


def evaluated(tenant: Tenancy, decision: Decision, *, reason: str = "Because.") -> str:
    """An update whose candidate was judged so; its URL."""
    choose(tenant)
    claim = tenant.claim(JobKind.MODEL_UPDATE)
    update_id = UUID(claim.plan["update_id"])
    with tenant.runtime.database.transaction() as session:
        trained = Trained(report=TRAINING_REPORT, outputs=[file_of(claim)])
        update_run.keep_trained(session, claim, trained, update_id=update_id)
    outcome = outcome_of(claim, decision, reason)
    extra = [stored(tenant, claim, "model_card", b"# A card\n", "text/markdown")]
    extra.append(stored(tenant, claim, "contact_sheet", b"a sheet", "image/png"))
    tenant.finish(claim, Outcome(**vars(outcome) | {"outputs": [*outcome.outputs, *extra]}))
    return f"/api/model-updates/{update_id}"


def stored(tenant: Tenancy, claim: Claim, kind: str, body: bytes, content_type: str) -> Output:
    key = f"job/{claim.job_id}/{claim.claim_epoch}/output/{kind}"
    tenant.runtime.store.put(key, body, content_type=content_type)
    return Output(type=kind, object_key=key, content_type=content_type, size_bytes=len(body), sha256="1" * 64)


def test_feedback_starts_an_update_by_itself(tenant: Tenancy, model_id: UUID) -> None:
    said = choose(tenant)
    update = the_update(tenant)
    assert (update["status"], update["trigger"], update["model"]) == ("planned", "policy", "lorikeet-tiny")
    assert update["triggered_by_feedback_id"] == said[-1]
    assert update["reason"]["because"] == "4 new labels of 2 users, 4 are many"
    assert (update["counts"]["rows"], update["counts"]["pairs"], update["counts"]["raters"]) == (4, 4, 2)
    assert update["progress"]["value"] == 0 and update["transitions"] == []
    assert tenant.get(update["urls"]["job"].removeprefix("http://testserver")).json()["kind"] == "model_update"
    shown = tenant.get(update["urls"]["self"].removeprefix("http://testserver")).json()
    assert [each["after"] for each in shown["transitions"]] == ["planned"]
    policy = tenant.get(f"/api/models/{model_id}/policy").json()
    assert policy["standing"]["in_flight_update_id"] == update["id"]
    assert policy["decided_at"] is not None
    assert tenant.get(f"/api/feedback/{said[0]}").json()["counted_in_update_id"] == update["id"]


def test_the_training_data_is_shown_page_by_page_with_what_was_left_out(tenant: Tenancy) -> None:
    image = tenant.draw()
    comment = {"kind": "comment", "image_id": image, "comment": "nice", "user_ref": "user-0"}
    said = tenant.post("/api/feedback", json=comment).json()["id"]
    choices = choose(tenant)
    url = f"/api/model-updates/{the_update(tenant)['id']}/training-data"
    rows: list[Any] = []
    exclusions: list[Any] = []
    cursor, pages = "", 0
    while cursor is not None:
        page = tenant.get(f"{url}?limit=3" + (f"&cursor={cursor}" if cursor else "")).json()
        assert len(page["rows"]) + len(page["exclusions"]) <= 3
        rows, exclusions, cursor = rows + page["rows"], exclusions + page["exclusions"], page["next_cursor"]
        pages += 1
    assert pages == 3
    assert [(row["position"], row["role"]) for row in rows] == [
        (position, role) for position in range(4) for role in ("chosen", "rejected")
    ]
    assert {row["feedback_id"] for row in rows} == set(choices) and {row["split"] for row in rows} == {"train"}
    assert [(each["feedback_id"], each["rule"], each["kind"]) for each in exclusions] == [(said, "comment", "comment")]
    whole = tenant.get(f"{url}?limit=100").json()
    assert (whole["rows"], whole["exclusions"], whole["next_cursor"]) == (rows, exclusions, None)
    for cursor in ("x", "cm93IC0x", "2026"):
        answer = tenant.get(f"{url}?cursor={cursor}")
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "cursor")


def test_asked_by_hand(tenant: Tenancy, model_id: UUID) -> None:
    for body in ({}, {"model": "lorikeet-tiny"}, {"model": str(model_id)}):
        answer = tenant.post("/api/model-updates", json=body)
        assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
        assert "0 of 4 pairs and 0 of 4 likes and dislikes" in answer.json()["detail"]
    tenant.call("PUT", f"/api/models/{model_id}/policy", json=POLICY | {"enabled": False})
    choose(tenant)
    headers = {"Idempotency-Key": "once"}
    first = tenant.post("/api/model-updates", json={}, headers=headers)
    assert first.status_code == 202 and first.headers["Location"] == first.json()["urls"]["self"]
    assert (first.json()["trigger"], first.json()["reason"]["because"]) == ("hand", "asked for by hand")
    again = tenant.post("/api/model-updates", json={}, headers=headers)
    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
    other = tenant.post("/api/model-updates", json={"model": "lorikeet-tiny"}, headers=headers)
    assert other.json()["code"] == "idempotency_key_reuse"
    busy = tenant.post("/api/model-updates", json={})
    assert (busy.status_code, busy.json()["detail"].split(" since ")[0]) == (
        409,
        "No update can start now: an update is in flight",
    )


def test_a_model_of_a_family_that_is_not_trained_learns_nothing(tenant: Tenancy, model_id: UUID) -> None:
    policy = f"/api/models/{model_id}/policy"
    tenant.call("PUT", policy, json=POLICY | {"enabled": False})
    choose(tenant)
    with tenant.runtime.database.transaction() as session:
        session.get_one(StableDiffusion, model_id).family = ModelFamily.FLUX
    tenant.call("PUT", policy, json=POLICY)
    answer = tenant.post("/api/model-updates", json={})
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    assert "of the family flux; only sd1, sd2, sdxl can be trained" in answer.json()["detail"]
    with tenant.runtime.database.transaction() as session:
        started = consider(
            session,
            tenant_id=tenant.id,
            model_id=model_id,
            queue=tenant.runtime.queue,
            settings=tenant.runtime.settings,
        )
    assert started is None
    assert tenant.get("/api/model-updates").json()["items"] == []
    decision = tenant.get(policy).json()["decision"]
    assert not decision["due"] and "of the family flux" in decision["waiting_for"][0]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"model": "none"}, 422, "validation_error"),
        ({"model": str(uuid4())}, 404, "not_found"),
        ({"modle": "x"}, 422, "validation_error"),
        ({"model": 7}, 422, "validation_error"),
        ({"model": "x" * 101}, 422, "validation_error"),
    ],
)
def test_bad_requests_are_told(tenant: Tenancy, body: dict[str, Any], status: int, code: str) -> None:
    answer = tenant.post("/api/model-updates", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


class Page(HTMLParser):
    """Notes every address that a page refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]


def test_the_report_is_json_and_a_page_and_a_card(tenant: Tenancy) -> None:
    choose(tenant, 4)
    early = f"/api/model-updates/{the_update(tenant)['id']}/report"
    told = tenant.get(early).json()
    assert [told[part] for part in ("training", "evaluation", "verdict", "contact_sheet")] == [None] * 4
    assert "No verdict yet" in tenant.get(f"{early}.html").text
    tenant.post(f"/api/model-updates/{the_update(tenant)['id']}/cancel")
    url = evaluated(tenant, Decision.REJECT, reason="Accuracy <0.5> & falling.")
    shown = tenant.get(url).json()
    assert (shown["status"], shown["outcome_reason"]) == ("rejected", "Accuracy <0.5> & falling.")
    report = tenant.get(f"{url}/report").json()
    assert report["verdict"] == shown["verdict"] and report["evaluation"] == shown["report"]
    assert report["training"]["looks"][0]["accuracy"] == 0.75
    assert "/output/contact_sheet?" in report["contact_sheet"]
    for path, headers in ((f"{url}/report.html", {}), (f"{url}/report", {"Accept": "text/html,*/*"})):
        page = tenant.get(path, headers=headers)
        assert page.headers["Content-Type"].startswith("text/html")
        assert page.headers["Content-Security-Policy"].startswith("sandbox; default-src 'none'; ")
        assert page.headers["X-Content-Type-Options"] == "nosniff"
        assert "Accuracy &lt;0.5&gt; &amp; falling." in page.text and "model update" in page.text.lower()
        reader = Page()
        reader.feed(page.text)
        assert reader.addresses and all(address.startswith("data:") for address in reader.addresses)
    card = tenant.get(f"{url}/model-card")
    assert (card.text, card.headers["Content-Type"]) == ("# A card\n", "text/markdown; charset=utf-8")
    assert card.headers["Content-Disposition"].startswith("attachment; ")


def test_a_person_lets_it_serve(tenant: Tenancy) -> None:
    url = evaluated(tenant, Decision.NEEDS_APPROVAL)
    assert tenant.get(url).json()["decide_by"] is not None
    approved = tenant.post(f"{url}/approve", json={"reason": "I looked."}).json()
    assert (approved["status"], approved["completed_at"]) == ("canary", None)
    moves = [(each["after"], each["actor"], each["reason"]) for each in approved["transitions"]]
    assert moves[-1][1:] == ("person", "I looked.") and "candidate" in [move[0] for move in moves]
    again = tenant.post(f"{url}/approve")
    assert (again.status_code, again.json()["code"]) == (409, "conflict")
    adapter = tenant.get(f"/api/adapters/{approved['adapter_id']}").json()
    assert adapter["stage"] == "canary" and approved["adapter"] == adapter["ref"]
    rejected = tenant.post(f"{url}/reject", json={"reason": "No."}).json()
    assert (rejected["status"], rejected["outcome_reason"]) == ("rejected", "No.")


def test_a_person_turns_it_down(tenant: Tenancy) -> None:
    url = evaluated(tenant, Decision.NEEDS_APPROVAL)
    rejected = tenant.post(f"{url}/reject").json()
    assert (rejected["status"], rejected["outcome_reason"]) == ("rejected", "A person rejected it.")
    assert tenant.get(f"/api/adapters/{rejected['adapter_id']}").json()["stage"] == "rejected"
    assert tenant.post(f"{url}/cancel").json()["status"] == "rejected"


def test_a_canary_is_canceled(tenant: Tenancy) -> None:
    url = evaluated(tenant, Decision.NEEDS_APPROVAL)
    tenant.post(f"{url}/approve")
    canceled = tenant.post(f"{url}/cancel", json={"reason": "Not this week."}).json()
    assert (canceled["status"], canceled["outcome_reason"]) == ("canceled", "Not this week.")
    assert tenant.get(f"/api/adapters/{canceled['adapter_id']}").json()["stage"] == "rejected"


def test_a_waiting_update_is_canceled_with_its_job(tenant: Tenancy) -> None:
    choose(tenant)
    update = the_update(tenant)
    canceled = tenant.post(f"/api/model-updates/{update['id']}/cancel", json={"reason": "Not now."}).json()
    assert (canceled["status"], canceled["outcome_reason"]) == ("canceled", "Not now.")
    assert tenant.get(f"/api/jobs/{update['job_id']}").json()["status"] == "canceled"


def test_updates_are_listed_newest_first_and_by_model(tenant: Tenancy, model_id: UUID) -> None:
    first = evaluated(tenant, Decision.REJECT)
    second = evaluated(tenant, Decision.REJECT)
    page = tenant.get("/api/model-updates?limit=1").json()
    assert second.endswith(page["items"][0]["id"])
    rest = tenant.get(f"/api/model-updates?limit=1&cursor={page['next_cursor']}").json()
    assert first.endswith(rest["items"][0]["id"]) and rest["next_cursor"] is None
    for named in (str(model_id), "lorikeet-tiny"):
        assert len(tenant.get(f"/api/model-updates?model={named}").json()["items"]) == 2
    other = tenant.register_model("other")
    assert tenant.get(f"/api/model-updates?model={other}").json()["items"] == []
    assert tenant.get("/api/model-updates?model=none").status_code == 422


def test_the_losses_of_an_update_are_metrics_of_its_job(tenant: Tenancy) -> None:
    choose(tenant)
    job = the_update(tenant)["job_id"]
    assert tenant.get(f"/api/jobs/{job}/metrics").json() == {"items": [], "next_after_step": None}


def test_anothers_update_does_not_exist(tenant: Tenancy, stranger: Tenancy) -> None:
    url = evaluated(tenant, Decision.NEEDS_APPROVAL)
    calls = [
        ("GET", url),
        *(("GET", f"{url}/{part}") for part in ("training-data", "report", "report.html", "model-card")),
    ]
    calls += [("POST", f"{url}/{verb}") for verb in ("approve", "reject", "cancel")]
    for method, path in calls:
        for caller, of in ((stranger, path), (tenant, path.replace(url, f"/api/model-updates/{uuid4()}"))):
            answer = caller.call(method, of)
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path
    assert stranger.get("/api/model-updates").json()["items"] == []
    assert tenant.get(url).json()["status"] == "awaiting_approval"
