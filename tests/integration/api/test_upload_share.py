"""Who uploads picture by picture has the threads of one tenant, however many datasets he opens."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import pytest

from core.infra.object_store import ObjectStore
from tests.api_bench import Tenancy
from tests.integration.api.test_dataset import PNG
from tests.loop_bench import wait_until

NUMBER = 8


def uploads(tenant: Tenancy, count: int) -> list[str]:
    """The URLs of a new dataset's pictures, without their host."""
    body = {"name": "a", "images": [{"file_name": f"{number}.png"} for number in range(count)]}
    urls = [urlsplit(each["url"]) for each in tenant.post("/api/datasets", json=body).json()["uploads"]]
    return [f"{url.path}?{url.query}" for url in urls]


class SlowStore:
    """Takes what belongs to some datasets when it may, all else at once."""

    def __init__(self, put: Any, slow: set[str]) -> None:
        self._put, self._slow = put, slow
        self.under_way = 0
        self.most = 0
        self.may_end = threading.Event()
        self._lock = threading.Lock()

    def put(self, key: str, *given: Any, **named: Any) -> None:
        if key.split("/")[1] in self._slow:
            with self._lock:
                self.under_way += 1
                self.most = max(self.most, self.under_way)
            assert self.may_end.wait(timeout=60)
            with self._lock:
                self.under_way -= 1
        self._put(key, *given, **named)


def test_two_datasets_of_a_tenant_share_its_threads(
    tenant: Tenancy, stranger: Tenancy, monkeypatch: pytest.MonkeyPatch
) -> None:
    urls = [url for _ in range(2) for url in uploads(tenant, NUMBER // 2)]
    store = SlowStore(tenant.runtime.store.put, {url.split("/")[3] for url in urls})
    monkeypatch.setattr(ObjectStore, "put", lambda _, *given, **named: store.put(*given, **named))
    with ThreadPoolExecutor(NUMBER) as callers:
        answers = [callers.submit(tenant.http.put, url, content=PNG) for url in urls]
        try:
            wait_until(lambda: store.under_way >= NUMBER // 2)
            [url] = uploads(stranger, 1)
            assert stranger.http.put(url, content=PNG).status_code == 204
        finally:
            store.may_end.set()
        assert [answer.result().status_code for answer in answers] == [204] * NUMBER
    assert store.most == NUMBER // 2
