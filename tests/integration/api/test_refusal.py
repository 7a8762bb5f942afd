"""What is refused leaves no file behind; where nobody knows whether it was, the file stays."""

from typing import Any

import pytest

from core.domain.errors import Conflict, Unavailable
from core.services import adapter as adapters
from core.services import job as jobs
from tests.api_bench import Tenancy, encode
from tests.body_bench import traces
from tests.integration.api.test_generation import picture
from tests.integration.api.test_limit import allow
from tests.unit.core.infra.test_adapter_file import kohya

pytestmark = pytest.mark.usefixtures("model_id")


def begin(tenant: Tenancy, **request: Any) -> Any:
    return tenant.generate(init_image=picture(), **request)


def objects(tenant: Tenancy) -> list[str]:
    return [key for key, _ in tenant.runtime.store.list("tenant/")]


def test_the_picture_of_a_refused_request_is_not_kept(tenant: Tenancy) -> None:
    tenant.post(
        "/api/models", json={"name": "new", "source": str((tenant.runtime.settings.model_dir / "new").resolve())}
    )
    once = {"Idempotency-Key": "once"}
    assert tenant.generate(headers=once).status_code == 202
    before = traces(tenant)
    refusals = [begin(tenant, model="none"), begin(tenant, adapters=[{"ref": "none"}]), begin(tenant, model="new")]
    refusals.append(begin(tenant, headers=once))
    for limit in ({"queued_jobs": 0.0}, {"gpu_seconds_per_day": 0.0}):
        allow(tenant, **limit)
        refusals.append(begin(tenant))
    assert [answer.status_code for answer in refusals] == [422, 422, 409, 422, 429, 429]
    assert traces(tenant) == before


def test_a_refusal_takes_no_picture_of_another_request(tenant: Tenancy) -> None:
    assert begin(tenant).status_code == 202
    [key] = objects(tenant)
    assert begin(tenant, model="none").status_code == 422
    assert objects(tenant) == [key]
    assert tenant.claim().plan["init_image_key"] == key


def test_a_request_that_comes_again_keeps_its_picture_once(tenant: Tenancy) -> None:
    answers = [begin(tenant, headers={"Idempotency-Key": "once"}) for _ in range(3)]
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert objects(tenant) == [tenant.claim().plan["init_image_key"]]


@pytest.mark.parametrize(("error", "status", "kept"), [(Conflict, 409, 0), (Unavailable, 503, 3)])
def test_what_an_outage_broke_off_may_be_there(
    tenant: Tenancy, monkeypatch: pytest.MonkeyPatch, error: type[Exception], status: int, kept: int
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(jobs, "submit", fail)
    monkeypatch.setattr(adapters, "next_version", fail)
    assert begin(tenant).status_code == status
    answer = tenant.post("/api/adapters", data={"name": "s"}, files={"file": encode(kohya())})
    assert (answer.status_code, len(objects(tenant))) == (status, kept)
