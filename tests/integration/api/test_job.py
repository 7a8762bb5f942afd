"""Jobs over HTTP: list, read, cancel, wait."""

import threading
import time

import pytest

from core.domain.errors import JobFailure
from core.domain.job import Progress
from core.domain.outcome import Outcome
from core.services import run as runs
from tests.api_bench import Tenancy

pytestmark = pytest.mark.usefixtures("model_id")


def test_a_jobs_life_as_its_owner_sees_it(tenant: Tenancy) -> None:
    url = tenant.generate().json()["urls"]["self"]
    claim = tenant.claim()
    with tenant.runtime.database.transaction() as session:
        runs.heartbeat(session, [(claim, Progress(5, 20, "denoising"))], lease_seconds=30)
    running = tenant.get(url).json()
    assert running["status"] == "running"
    assert running["progress"] == {"value": 0.25, "step": 5, "steps": 20, "message": "denoising"}
    assert (running["queue_position"], running["completed_at"], running["expires_at"]) == (None, None, None)
    tenant.finish(claim, Outcome(warnings=["so so"]))
    done = tenant.get(url).json()
    assert (done["status"], done["progress"]["value"], done["warnings"]) == ("succeeded", 1.0, ["so so"])
    assert done["metrics"]["execution_ms"] >= 0
    assert done["expires_at"] > done["completed_at"]


def test_the_job_has_exactly_the_fields_of_the_contract(tenant: Tenancy) -> None:
    job = tenant.generate().json()
    assert set(job) == {
        "id",
        "kind",
        "status",
        "created_at",
        "started_at",
        "completed_at",
        "expires_at",
        "queue_position",
        "estimated_wait_seconds",
        "progress",
        "outputs",
        "priority",
        "error",
        "warnings",
        "metrics",
        "webhook",
        "urls",
    }
    assert set(job["metrics"]) == {"queue_ms", "execution_ms", "gpu_seconds"}
    assert set(job["urls"]) == {"self", "cancel", "webhooks"}


def test_a_failed_job_says_why(tenant: Tenancy) -> None:
    url = tenant.generate().json()["urls"]["self"]
    with tenant.runtime.database.transaction() as session:
        runs.fail(session, tenant.claim(), JobFailure("no luck"))
    assert tenant.get(url).json()["error"] == {"code": "job_failed", "message": "no luck"}


def test_cancel_a_waiting_job_a_running_one_and_a_finished_one(tenant: Tenancy) -> None:
    waiting = tenant.generate().json()
    assert tenant.post(waiting["urls"]["cancel"]).json()["status"] == "canceled"
    running = tenant.generate().json()
    claim = tenant.claim()
    assert tenant.post(running["urls"]["cancel"]).json()["status"] == "canceling"
    assert [job["id"] for job in tenant.get("/api/jobs?status=canceling").json()["items"]] == [running["id"]]
    with tenant.runtime.database.transaction() as session:
        runs.mark_canceled(session, claim)
    assert tenant.post(running["urls"]["cancel"]).json()["status"] == "canceled"


def test_lists_are_newest_first_and_turn_pages(tenant: Tenancy) -> None:
    ids = [tenant.generate().json()["id"] for _ in range(5)][::-1]
    seen, cursor = [], ""
    while True:
        page = tenant.get(f"/api/jobs?kind=generation&limit=2{cursor}").json()
        seen += [job["id"] for job in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == ids
    assert tenant.get("/api/jobs?status=succeeded&kind=generation").json() == {"items": [], "next_cursor": None}
    positions = {job["id"]: job["queue_position"] for job in tenant.get("/api/jobs?kind=generation").json()["items"]}
    assert [positions[each] for each in ids] == [4, 3, 2, 1, 0]


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=x", "status=done", "kind=x", "cursor=x", "cursor=%00", "cursor=%ED%A0%80"]
)
def test_strange_queries_are_refused(tenant: Tenancy, query: str) -> None:
    answer = tenant.get(f"/api/jobs?{query}")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == query.partition("=")[0]


def test_who_waits_gets_the_finished_job(tenant: Tenancy) -> None:
    def work() -> None:
        time.sleep(0.3)
        tenant.finish(tenant.claim(), Outcome())

    worker = threading.Thread(target=work)
    worker.start()
    answer = tenant.generate(headers={"Prefer": "wait=30"})
    worker.join()
    assert (answer.status_code, answer.json()["status"]) == (200, "succeeded")
    assert answer.headers["Preference-Applied"] == "wait=30"
    assert answer.headers["Location"] == answer.json()["urls"]["self"]


def test_who_waits_in_vain_gets_the_job_as_it_is(tenant: Tenancy) -> None:
    answer = tenant.generate(headers={"Prefer": "wait=1"})
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")


def test_many_wait_at_once_without_threads_or_connections(tenant: Tenancy) -> None:
    """More wait than there are threads and connections, and others are served meanwhile."""
    number = 60
    answers: list[int] = []

    def wait(index: int) -> None:
        answers.append(tenant.generate(f"star {index}", headers={"Prefer": "wait=60"}).status_code)

    threads = [threading.Thread(target=wait, args=(index,)) for index in range(number)]
    for thread in threads:
        thread.start()
    while len(tenant.get("/api/jobs?kind=generation&limit=100").json()["items"]) < number:
        time.sleep(0.05)
    assert tenant.get("/readyz").status_code == 200
    for _ in range(number):
        tenant.finish(tenant.claim(), Outcome())
    for thread in threads:
        thread.join()
    assert answers == [200] * number


def test_nobody_waits_for_a_process_that_ends(tenant: Tenancy) -> None:
    ended: list[int] = []
    thread = threading.Thread(target=lambda: ended.append(tenant.generate(headers={"Prefer": "wait=60"}).status_code))
    thread.start()
    while not tenant.get("/api/jobs?kind=generation").json()["items"]:
        time.sleep(0.05)
    tenant.runtime.watch.release()
    thread.join(timeout=20)
    assert ended == [202]
