import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from core.domain.errors import AdapterUnusable, Unavailable
from core.infra.object_store import ObjectStore
from core.infra.settings import Settings
from worker.engine.adapter_cache import AdapterCache


@pytest.fixture
def folder(settings: Settings) -> Path:
    return settings.cache_dir / "adapter"


def put(store: ObjectStore, content: bytes) -> dict[str, str]:
    digest = hashlib.sha256(content).hexdigest()
    store.put(f"adapter/{digest}", content, content_type="application/octet-stream")
    return {"sha256": digest, "object_key": f"adapter/{digest}"}


def test_a_file_is_fetched_once(settings: Settings, store: ObjectStore) -> None:
    cache = AdapterCache(settings, store)
    file = put(store, b"weights")
    path = cache.fetch(**file)
    assert path.read_bytes() == b"weights"
    store.delete(file["object_key"])
    assert cache.fetch(**file) == path
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_another_file_under_the_key_is_refused(settings: Settings, store: ObjectStore, folder: Path) -> None:
    file = put(store, b"weights")
    store.put(file["object_key"], b"others", content_type="application/octet-stream")
    with pytest.raises(AdapterUnusable, match=file["sha256"]):
        AdapterCache(settings, store).fetch(**file)
    assert list(folder.iterdir()) == []


def test_a_file_that_is_gone(settings: Settings, store: ObjectStore, folder: Path) -> None:
    with pytest.raises(AdapterUnusable, match="gone"):
        AdapterCache(settings, store).fetch(sha256="0" * 64, object_key="adapter/none")
    assert list(folder.iterdir()) == []


def test_a_store_that_is_away_is_not_the_adapters_fault(alone: Settings) -> None:
    with pytest.raises(Unavailable):
        AdapterCache(alone, ObjectStore(alone)).fetch(sha256="0" * 64, object_key="adapter/none")


def test_the_oldest_use_makes_room(settings: Settings, store: ObjectStore) -> None:
    small = settings.model_copy(update={"adapter_cache_bytes": 2500})
    cache = AdapterCache(small, store)
    files = [put(store, bytes([number]) * 1000) for number in range(4)]
    paths = [cache.fetch(**file) for file in files[:2]]
    for age, path in zip((7200, 3600), paths, strict=True):
        os.utime(path, (time.time() - age,) * 2)
    cache.fetch(**files[0])  # used again: no longer the oldest
    third = cache.fetch(**files[2])
    assert [path.exists() for path in (*paths, third)] == [True, False, True]
    fourth = cache.fetch(**files[3])
    assert all(path.exists() for path in (paths[0], third, fourth)), "what was used just now stays"


def test_a_file_that_another_process_removes_meanwhile_is_no_trouble(settings: Settings, store: ObjectStore) -> None:
    cache = AdapterCache(settings, store)
    cache.fetch(**put(store, b"first"))
    [file] = (settings.cache_dir / "adapter").glob("*.safetensors")
    file.with_name("gone.safetensors").symlink_to("nowhere")  # listed, and not there when it is looked at
    assert cache.fetch(**put(store, b"second")).is_file()


def test_many_ask_at_once(settings: Settings, store: ObjectStore) -> None:
    file = put(store, b"weights" * 10_000)
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda _: AdapterCache(settings, store).fetch(**file), range(8)))
    assert len(set(paths)) == 1
    assert hashlib.sha256(paths[0].read_bytes()).hexdigest() == file["sha256"]
