"""No space: for what is uploaded, under Postgres, under the store. An outage like others, and nothing is half there."""

import io
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from sqlalchemy import func, select, text
from structlog.testing import capture_logs

from core.domain.job import JobKind
from core.infra.table import Base
from tests.api_bench import Tenancy
from tests.body_bench import traces
from tests.integration.api.test_bad_file import as_adapter, as_archive, as_beginning, as_body, as_picture
from tests.integration.api.test_dataset import PNG, upload
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


REFUSE = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  RAISE EXCEPTION 'could not extend file "base/5/16402": No space left on device' USING ERRCODE = 'disk_full';
END $$
"""
WHEN = {
    "at once": "CREATE TRIGGER refuse BEFORE INSERT ON {} FOR EACH ROW EXECUTE FUNCTION refuse()",
    "at the commit": "CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON {} DEFERRABLE INITIALLY DEFERRED "
    "FOR EACH ROW EXECUTE FUNCTION refuse()",
}


@contextmanager
def full_database(tenant: Tenancy, table: str, when: str) -> Iterator[None]:
    """While this lasts Postgres has no space for rows of a table, and says so as it does of a full disk."""
    with tenant.runtime.database.transaction() as session:
        for statement in (REFUSE, WHEN[when].format(table)):
            session.execute(text(statement))
    yield
    with tenant.runtime.database.transaction() as session:
        session.execute(text("DROP FUNCTION refuse CASCADE"))


@contextmanager
def full_store(tenant: Tenancy, status: int, code: str) -> Iterator[None]:
    """While this lasts the store takes no file, for want of space, in the words of one or another server."""
    body = f"<Error><Code>{code}</Code><Message>No space left on device</Message></Error>".encode()

    def refuse(request: Any, **_: Any) -> AWSResponse:
        answer: Any = io.BytesIO(body)
        answer.stream = lambda *_, **__: iter([body])
        return AWSResponse(request.url, status, HTTPHeaders(), answer)

    events: Any = tenant.runtime.store._client.meta.events
    events.register("before-send.s3.PutObject", refuse)
    yield
    events.unregister("before-send.s3.PutObject", refuse)


def rows(tenant: Tenancy) -> dict[str, int]:
    """How many there are in every table."""
    with tenant.runtime.database.transaction() as session:
        tables = Base.metadata.tables.items()
        return {name: session.scalar(select(func.count()).select_from(table)) or 0 for name, table in tables}


def submit(tenant: Tenancy, _: str) -> Any:
    return tenant.generate(headers={"Idempotency-Key": "one"})


def add_dataset(tenant: Tenancy, _: str) -> Any:
    return upload(tenant, "a", "b")


def begin_with_a_picture(tenant: Tenancy, _: str) -> Any:
    return as_beginning(tenant, PNG, "")


def say(tenant: Tenancy, image_id: str) -> Any:
    return tenant.post("/api/feedback", json={"kind": "thumb", "liked": True, "user_ref": "a", "image_id": image_id})


@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize(("ask", "table"), [(submit, "job"), (add_dataset, "dataset_image"), (say, "user_feedback")])
def test_postgres_without_space_takes_nothing_by_halves(
    tenant: Tenancy, ask: Callable[[Tenancy, str], Any], table: str, when: str
) -> None:
    image_id = tenant.draw()
    before, unheard = rows(tenant), tenant.runtime.queue.unheard(list(JobKind))
    with full_database(tenant, table, when), capture_logs() as log:
        answer = ask(tenant, image_id)
        problem(answer, 503, "unavailable")
        assert int(answer.headers["Retry-After"]) >= 1
        assert rows(tenant) == before
        assert tenant.get("/api/jobs").status_code == 200, "what is there can be read"
    assert any("No space left" in line["error"] for line in log if line["event"] == "database_failed")
    assert tenant.runtime.queue.unheard(list(JobKind)) == unheard
    assert ask(tenant, image_id).status_code in (201, 202), "the same once more"
    assert rows(tenant)[table] > before[table]


@pytest.mark.parametrize(("status", "code"), [(507, "XMinioStorageFull"), (500, "InternalError")])
@pytest.mark.parametrize("send", [add_dataset, begin_with_a_picture])
def test_a_store_without_space_takes_no_picture(
    tenant: Tenancy, send: Callable[[Tenancy, str], Any], status: int, code: str
) -> None:
    before = traces(tenant), rows(tenant)
    with full_store(tenant, status, code), capture_logs() as log:
        answer = send(tenant, "")
        problem(answer, 503, "unavailable")
        assert int(answer.headers["Retry-After"]) >= 1
        assert (traces(tenant), rows(tenant)) == before
        assert tenant.generate().status_code == 202, "what needs no file is accepted"
    assert any("No space left" in line["error"] for line in log if line["event"] == "store_failed")
    assert send(tenant, "").status_code in (201, 202), "the same once more"
