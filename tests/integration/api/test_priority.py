"""The Job-Priority header."""

from uuid import UUID

import pytest

from tests.api_bench import Tenancy


@pytest.mark.parametrize("priority", ["high", "normal", "low"])
def test_a_job_shows_its_priority(tenant: Tenancy, model_id: UUID, priority: str) -> None:
    job = tenant.generate(headers={"Job-Priority": priority}).json()
    assert job["priority"] == priority
    assert tenant.get(f"/api/jobs/{job['id']}").json()["priority"] == priority


def test_another_word_is_refused_by_the_headers_name(tenant: Tenancy, model_id: UUID) -> None:
    answer = tenant.generate(headers={"Job-Priority": "now"})
    assert answer.status_code == 422
    assert [problem["field"] for problem in answer.json()["errors"]] == ["Job-Priority"]
