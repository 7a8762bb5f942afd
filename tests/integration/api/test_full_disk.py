"""No space for what is uploaded: an outage like others, and nothing is left of it."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest
from structlog.testing import capture_logs

from tests.api_bench import Tenancy
from tests.body_bench import traces
from tests.integration.api.test_bad_file import as_adapter, as_archive, as_body, as_picture
from tests.integration.api.test_problem import problem

pytestmark = pytest.mark.usefixtures("model_id")


def open_full(*_: object, **__: object) -> IO[bytes]:
    return Path("/dev/full").open("w+b", buffering=0)


@pytest.mark.parametrize("send", [as_adapter, as_picture, as_archive, as_body])
def test_an_upload_for_which_there_is_no_space(
    tenant: Tenancy, send: Callable[[Tenancy, bytes, str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = traces(tenant)
    monkeypatch.setattr(tempfile, "TemporaryFile", open_full)
    with capture_logs() as log:
        answer = send(tenant, bytes(2**21), "a")
    assert "disk" in problem(answer, 503, "unavailable")["detail"]
    assert int(answer.headers["Retry-After"]) >= 1
    assert ("disk_full", "error") in [(line["event"], line["log_level"]) for line in log]
    assert traces(tenant) == before
