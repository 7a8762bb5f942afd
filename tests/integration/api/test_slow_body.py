"""Bodies that are large, slow or many: nobody's keep others' out, and none is waited for without end."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest
from starlette.types import Message

from core.infra.settings import Settings
from tests.api_bench import Tenancy, open_app
from tests.integration.api.test_dataset import open_dataset
from tests.integration.api.test_problem import JSON, problem
from tests.raw_request import RawRequest, SlowRequest

MIB = 2**20
ZIP = {"Content-Type": "application/zip"}


@dataclass
class Trickle(RawRequest):
    """A request of which a byte comes now and then, and never the last."""

    async def _receive(self) -> Message:
        await asyncio.sleep(0.02)
        self.received += 1
        return {"type": "http.request", "body": b" ", "more_body": True}


@contextmanager
def two_tenants(settings: Settings, **limits: Any) -> Iterator[tuple[Tenancy, Tenancy]]:
    limits = {"s3_public_endpoint_url": None} | limits
    with open_app(settings.model_copy(update=limits)) as client:
        runtime = client.app.state.runtime  # type: ignore[attr-defined]
        yield Tenancy(client, runtime, name="slow"), Tenancy(client, runtime, name="other")


@contextmanager
def stalled(tenant: Tenancy, *chunks: bytes, path: str = "/api/generate") -> Iterator[SlowRequest]:
    """A request of the tenant that has sent so much, and no more until the block ends."""
    slow = SlowRequest("POST", path, {**JSON, **tenant.headers}, chunks)
    under_way = slow.begin(tenant)
    assert slow.is_read.wait(timeout=30)
    try:
        yield slow
    finally:
        slow.may_end.set()
        under_way.result(timeout=30)


def post(tenant: Tenancy, size: int) -> Any:
    return tenant.post("/api/generate", content=b" " * size, headers=JSON)


def test_bodies_of_a_tenant_have_half_of_the_room(settings: Settings) -> None:
    limits = {"max_bodies_bytes": 16 * MIB, "max_body_bytes": 6 * MIB}
    with two_tenants(settings, **limits) as (slow, other):
        with stalled(slow, b" " * 6 * MIB):
            problem(post(other, 6 * MIB), 422, "validation_error")
            refusal = problem(post(slow, 6 * MIB), 429, "too_much_at_once")
            expected = "Of bodies of one tenant at most 8388608 bytes are read at once. Send this one again later."
            assert refusal["detail"] == expected
            problem(post(slow, 4 * MIB), 422, "validation_error")
        problem(post(slow, 6 * MIB), 422, "validation_error")


def test_bodies_that_are_too_much_together_are_put_off(settings: Settings) -> None:
    limits = {"max_bodies_bytes": 2 * MIB, "max_body_bytes": 3 * MIB, "max_picture_json_bytes": 4 * MIB}
    with two_tenants(settings, **limits) as (slow, other):
        with stalled(slow, b" " * 3 * MIB):
            problem(post(other, MIB), 422, "validation_error")
            for _ in range(2):
                refusal = problem(post(other, MIB + 1), 503, "unavailable")
                expected = "Of bodies of all at most 2097152 bytes are read at once. Send this one again later."
                assert refusal["detail"] == expected
        problem(post(other, 3 * MIB), 422, "validation_error")


def test_many_small_bodies_of_a_tenant_are_too_much_as_well(settings: Settings) -> None:
    with two_tenants(settings, max_bodies_bytes=8 * MIB) as (slow, other):
        with stalled(slow, b" " * (MIB // 2)), stalled(slow, b" " * (MIB // 2)):
            assert problem(post(slow, 1), 429, "too_much_at_once")["detail"].startswith("Of bodies of one tenant")
            problem(post(other, MIB), 422, "validation_error")
        problem(post(slow, MIB), 422, "validation_error")


def test_a_body_that_does_not_come_on_is_given_up(settings: Settings) -> None:
    limits = {"max_bodies_bytes": 4 * MIB, "max_body_bytes": 3 * MIB, "max_picture_json_bytes": 4 * MIB}
    with two_tenants(settings, body_seconds=0.5, **limits) as (slow, other):
        for _ in range(3):  # its room is free again each time
            request = SlowRequest("POST", "/api/generate", {**JSON, **slow.headers}, [b" " * 3 * MIB])
            under_way = request.begin(slow)
            problem(post(other, 2 * MIB), 422, "validation_error")
            under_way.result(timeout=30)
            request.may_end.set()
            check_given_up(request)


def test_a_body_that_comes_drop_by_drop_is_given_up(settings: Settings) -> None:
    with two_tenants(settings, body_seconds=0.5) as (slow, _):
        for path, kind in (("/api/generate", JSON), ("/api/datasets?name=a", ZIP)):
            request = Trickle("POST", path, {**kind, **slow.headers})
            request.begin(slow).result(timeout=30)
            check_given_up(request)


@pytest.mark.parametrize("chunks", [[b"x"], []])
def test_a_signed_upload_that_does_not_come_on_is_given_up(settings: Settings, chunks: list[bytes]) -> None:
    with two_tenants(settings, body_seconds=0.5) as (slow, _):
        url = urlsplit(open_dataset(slow)["uploads"][0]["url"])
        request = SlowRequest("PUT", f"{url.path}?{url.query}", {}, chunks)
        request.begin(slow).result(timeout=30)
        request.may_end.set()
        check_given_up(request)


def test_a_signed_upload_takes_room_of_its_datasets_tenant(settings: Settings) -> None:
    with two_tenants(settings, max_bodies_bytes=8 * MIB) as (slow, other):
        urls = [urlsplit(open_dataset(each)["uploads"][0]["url"]) for each in (slow, other)]
        [mine, others] = [f"{url.path}?{url.query}" for url in urls]
        with stalled(slow, b" " * MIB):
            assert RawRequest("PUT", mine, {}, [b"x"]).send(slow) == 429
            assert other.http.put(others, content=b"x").status_code == 204
        assert slow.http.put(mine, content=b"x").status_code == 204


def check_given_up(request: RawRequest) -> None:
    start = request.answer[0]
    assert (start["status"], dict(start["headers"])[b"connection"]) == (408, b"close")
    assert b'"body_too_slow"' in request.body
    assert b"at 8192 bytes a second or faster; this one did not for 0.5 seconds." in request.body


def test_an_answer_may_take_its_time(settings: Settings) -> None:
    """Who waits for a job sends nothing meanwhile."""
    with two_tenants(settings, body_seconds=0.2) as (tenant, _):
        tenant.register_model()
        assert tenant.generate(headers={"Prefer": "wait=1"}).status_code == 202
