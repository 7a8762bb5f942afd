"""When a job says that it will be removed, it will be."""

from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import event, text

from core.domain.outcome import Outcome
from core.infra.table import Adapter, ModelUpdate
from tests.api_bench import Tenancy
from tests.row_of_each_table import DIGEST

pytestmark = pytest.mark.usefixtures("model_id")


def ends(tenant: Tenancy, job: str) -> str | None:
    """As the job itself and a list of jobs say it."""
    [listed] = [each for each in tenant.get("/api/jobs").json()["items"] if each["id"] == job]
    assert tenant.get(f"/api/jobs/{job}").json()["expires_at"] == listed["expires_at"]
    end: str | None = listed["expires_at"]
    return end


def drawn(tenant: Tenancy) -> tuple[str, Any]:
    """A job that is done, and its picture."""
    [picture] = tenant.draw_several()
    return tenant.get("/api/jobs").json()["items"][0]["id"], picture


def test_a_picture_stays_while_somebodys_word_on_it_stands(tenant: Tenancy) -> None:
    job, picture = drawn(tenant)
    assert ends(tenant, job)
    body = {"kind": "thumb", "image_id": picture["id"], "liked": True, "user_ref": "anna"}
    said = tenant.post("/api/feedback", json=body)
    assert said.status_code == 201, said.text
    assert ends(tenant, job) is None
    with tenant.runtime.database.transaction() as session:
        session.execute(text("UPDATE user_feedback SET withdrawn_at = now()"))
    assert ends(tenant, job)


def test_a_job_stays_while_its_adapter_is_there(tenant: Tenancy, model_id: UUID) -> None:
    job, _ = drawn(tenant)
    with tenant.runtime.database.transaction() as session:
        session.execute(text("UPDATE job SET kind = 'training' WHERE id = :id"), {"id": job})
        adapter = Adapter(tenant_id=tenant.id, base_model_id=model_id, job_id=UUID(job), name="a", version=1)
        adapter.rank, adapter.alpha, adapter.sha256, adapter.size_bytes = 4, 4.0, DIGEST, 1
        adapter.object_key, adapter.manifest = "a", {}
        session.add(adapter)
    assert ends(tenant, job) is None
    with tenant.runtime.database.transaction() as session:
        session.execute(text("DELETE FROM adapter"))
    assert ends(tenant, job)


def test_a_model_update_stays_whatever_became_of_it(tenant: Tenancy, model_id: UUID) -> None:
    job, _ = drawn(tenant)
    with tenant.runtime.database.transaction() as session:
        session.execute(text("UPDATE job SET kind = 'model_update', status = 'failed' WHERE id = :id"), {"id": job})
        session.add(ModelUpdate(tenant_id=tenant.id, stable_diffusion_id=model_id, job_id=UUID(job)))
    assert ends(tenant, job) is None


def test_a_list_of_jobs_asks_once_for_all_of_them(tenant: Tenancy) -> None:
    asked: list[str] = []
    engine = tenant.runtime.database._engine
    event.listen(engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    counts = []
    for _ in range(3):
        tenant.generate()
        tenant.finish(tenant.claim(), Outcome())
        asked.clear()
        assert all(job["expires_at"] for job in tenant.get("/api/jobs?kind=generation").json()["items"])
        counts.append(len(asked))
    assert len(set(counts)) == 1
