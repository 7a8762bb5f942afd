"""The servers that all other tests stand on."""

import urllib.error
import urllib.request

import pytest
from sqlalchemy import text

from core.infra.database import Database
from core.infra.object_store import ObjectStore
from core.infra.settings import Settings
from core.infra.task_queue import TaskQueue
from tests.servers import Servers


def test_postgres_is_real_and_migrated(database: Database) -> None:
    with database.transaction() as session:
        assert session.scalar(text("SELECT count(*) FROM job")) == 0
        assert str(session.scalar(text("SHOW server_version"))).startswith("18.")


def test_each_test_has_a_database_of_its_own(servers: Servers, settings: Settings) -> None:
    other = servers.settings()
    assert other.database_url != settings.database_url
    assert other.redis_url != settings.redis_url
    assert other.s3_bucket != settings.s3_bucket


def test_the_queue_answers(settings: Settings) -> None:
    queue = TaskQueue(settings)
    assert queue.is_reachable()
    queue.close()


def test_the_store_keeps_bytes_and_refuses_a_tampered_url(store: ObjectStore) -> None:
    store.put("some/key", b"bytes", content_type="text/plain")
    assert store.get("some/key") == b"bytes"
    url = store.presign_get("some/key", content_type="text/plain", file_name="key.txt", lifetime_seconds=60)
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == b"bytes"
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(url.replace("some/key", "some/other"))
    assert refused.value.code == 403
    refused.value.close()
