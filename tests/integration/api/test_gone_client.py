"""Clients that go away in the middle of a request: no fault of ours, and nothing is left of it."""

import pytest
from structlog.testing import capture_logs

from tests.api_bench import Tenancy
from tests.body_bench import traces
from tests.integration.api.test_dataset import open_dataset
from tests.raw_request import RawRequest

FORM = "multipart/form-data; boundary=b"
PART = b'--b\r\nContent-Disposition: form-data; name="%s"; filename="a"\r\n\r\n' + bytes(2**21)
REQUESTS = [
    RawRequest("POST", "/api/datasets", {"Content-Type": FORM}, [PART % b"images"]),
    RawRequest("POST", "/api/datasets?name=d", {"Content-Type": "application/zip"}, [b"PK", bytes(2**21)]),
    RawRequest("POST", "/api/datasets", {"Content-Type": "application/json"}, [b'{"name":']),
    RawRequest("POST", "/api/adapters", {"Content-Type": FORM}, [PART % b"file"]),
    RawRequest("POST", "/api/generate", {"Content-Type": "application/json"}, [b'{"prompt":']),
]


def check_gone(tenant: Tenancy, request: RawRequest) -> None:
    before = traces(tenant)
    with capture_logs() as log:
        assert request.send(tenant) == 499
    assert [(line["event"], line["log_level"], line["status"]) for line in log] == [("answered", "info", 499)]
    assert traces(tenant) == before


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda each: f"{each.url} {each.headers['Content-Type'][:15]}")
def test_an_upload_that_breaks_off_is_nobodys_fault(tenant: Tenancy, request_: RawRequest) -> None:
    check_gone(tenant, RawRequest("POST", request_.url, {**request_.headers, **tenant.headers}, request_.chunks))


def test_a_picture_that_breaks_off_is_not_there(hidden: Tenancy) -> None:
    url = open_dataset(hidden)["uploads"][0]["url"].removeprefix("http://testserver")
    check_gone(hidden, RawRequest("PUT", url, chunks=[bytes(2**21)]))
    told = hidden.http.get("/metrics").text
    assert 'route="/api/datasets/{dataset_id}/uploads/{position}",status="499"} 1.0' in told
