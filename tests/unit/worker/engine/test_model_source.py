import gc
import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from core.domain.base_model import LoadOptions
from core.domain.errors import JobStopped, ModelUnusable, Unavailable
from core.infra.object_store import ObjectStore
from core.infra.settings import Settings
from tests.model_bench import fetch, files_of, handle
from worker.engine.model_source import forget_model
from worker.engine.pipeline import load_pipeline


@pytest.fixture
def prefix(store: ObjectStore, sd_folder: Path) -> str:
    for name, content in files_of(sd_folder).items():
        store.put(f"models/tiny/{name}", content, content_type="application/octet-stream")
    store.put("models/tiny/README.md", b"not needed", content_type="text/markdown")
    store.put("models/tiny/unet/run.py", b"not wanted", content_type="text/x-python")
    return f"s3://{store.bucket}/models/tiny"


def test_a_folder_is_taken_as_it_is(alone: Settings, sd_folder: Path) -> None:
    store = ObjectStore(alone)
    assert fetch(handle(str(sd_folder)), settings=alone, store=store) == sd_folder
    with pytest.raises(ModelUnusable, match="no folder"):
        fetch(handle("/not/there"), settings=alone, store=store)


def test_a_prefix_is_fetched_once(settings: Settings, store: ObjectStore, prefix: str, sd_folder: Path) -> None:
    folder = fetch(handle(prefix), settings=settings, store=store)
    assert files_of(folder) == files_of(sd_folder)
    for key, _ in list(store.list("models/")):
        store.delete(key)
    assert fetch(handle(prefix + "/"), settings=settings, store=store).is_dir()
    load_pipeline(fetch(handle(prefix), settings=settings, store=store), LoadOptions(), device="cpu")


def test_a_fetch_that_was_stopped_is_not_a_model_and_is_gone_on_with(
    settings: Settings, store: ObjectStore, prefix: str, sd_folder: Path
) -> None:
    count = 0

    def stop_at_the_fourth() -> None:
        nonlocal count
        count += 1
        if count == 4:
            raise JobStopped

    with pytest.raises(JobStopped):
        fetch(handle(prefix), settings=settings, store=store, on_file=stop_at_the_fourth)
    assert not [path for path in settings.model_cache_dir.iterdir() if path.is_dir() and path.suffix != ".part"]
    fetched = 0

    def on_file() -> None:
        nonlocal fetched
        fetched += 1

    folder = fetch(handle(prefix), settings=settings, store=store, on_file=on_file)
    assert files_of(folder) == files_of(sd_folder)
    assert fetched == len(files_of(sd_folder)) - 1 - 3, "all but the index and the three that were there"


# boto3's transfers leave a connection that was not read to its end to whoever collects garbage.
@pytest.mark.filterwarnings("ignore:.*socket.socket:pytest.PytestUnraisableExceptionWarning")
def test_a_fetch_stops_in_the_middle_of_a_file(
    settings: Settings, store: ObjectStore, prefix: str, sd_folder: Path
) -> None:
    store.put("models/tiny/vae/last.safetensors", bytes(2**24), content_type="application/octet-stream")
    files = len(files_of(sd_folder))  # all but the index, and the last
    begun = asked = 0

    def on_file() -> None:
        nonlocal begun
        begun += 1

    def should_stop() -> bool:
        nonlocal asked
        asked += begun == files
        return asked > 2

    with pytest.raises(JobStopped):
        fetch(handle(prefix), settings=settings, store=store, on_file=on_file, should_stop=should_stop)
    [part] = settings.model_cache_dir.glob("*.part")
    assert begun == files and not list(part.glob("vae/last*"))
    gc.collect()  # here, not in some test after this one


def test_it_is_at_work_while_a_file_comes(settings: Settings, store: ObjectStore, prefix: str) -> None:
    store.put("models/tiny/vae/last.safetensors", bytes(2**24), content_type="application/octet-stream")
    calls: list[str] = []
    fetch(
        handle(prefix),
        settings=settings,
        store=store,
        on_file=lambda: calls.append("file"),
        at_work=lambda: calls.append("work"),
    )
    last = len(calls) - calls[::-1].index("file")
    assert calls[last:].count("work") > 1


def test_it_is_at_work_while_another_fetches(settings: Settings, store: ObjectStore, prefix: str) -> None:
    begun, waited = threading.Event(), threading.Event()
    calls = itertools.count()

    def wait() -> None:
        begun.set()
        assert waited.wait(60)

    def at_work() -> None:
        if next(calls) > 2:
            waited.set()

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(fetch, handle(prefix), settings=settings, store=store, on_file=wait)
        assert begun.wait(60)
        second = pool.submit(fetch, handle(prefix), settings=settings, store=store, at_work=at_work)
        assert first.result() == second.result()


def test_whoever_waits_until_another_has_fetched_may_stop(settings: Settings, store: ObjectStore, prefix: str) -> None:
    begun, stopped = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        assert stopped.wait(60)

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(fetch, handle(prefix), settings=settings, store=store, on_file=wait)
        assert begun.wait(60)
        asked = itertools.count()
        with pytest.raises(JobStopped):
            fetch(handle(prefix), settings=settings, store=store, should_stop=lambda: next(asked) > 1)
        stopped.set()
        assert first.result().is_dir()


def test_many_ask_at_once(settings: Settings, store: ObjectStore, prefix: str) -> None:
    calls: list[str] = []
    with ThreadPoolExecutor(6) as pool:
        folders = list(
            pool.map(
                lambda _: fetch(handle(prefix), settings=settings, store=store, on_file=lambda: calls.append("file")),
                range(6),
            )
        )
    assert len(set(folders)) == 1
    assert len(calls) == len(files_of(folders[0])) - 1


def test_a_prefix_with_a_pickle_is_refused_before_it_is_fetched(
    settings: Settings, store: ObjectStore, prefix: str
) -> None:
    store.put("models/tiny/unet/diffusion_pytorch_model.bin", b"\x80\x04.", content_type="application/octet-stream")
    with pytest.raises(ModelUnusable, match=r"unet/diffusion_pytorch_model\.bin"):
        fetch(handle(prefix), settings=settings, store=store)


@pytest.mark.parametrize("name", ["nothing/here", ""])
def test_a_prefix_that_holds_no_model(settings: Settings, store: ObjectStore, name: str) -> None:
    with pytest.raises(ModelUnusable, match=r"has no model_index\.json"):
        fetch(handle(f"s3://{store.bucket}/{name}"), settings=settings, store=store)


def test_a_bucket_that_is_not_there(settings: Settings, store: ObjectStore) -> None:
    with pytest.raises(ModelUnusable):
        fetch(handle("s3://no-such-bucket/model"), settings=settings, store=store)


def test_a_store_that_is_away_is_not_the_models_fault(alone: Settings) -> None:
    with pytest.raises(Unavailable):
        fetch(handle("s3://bucket/model"), settings=alone, store=ObjectStore(alone))


def test_a_prefix_that_is_too_large_is_refused_before_it_is_fetched(
    settings: Settings, store: ObjectStore, prefix: str, sd_folder: Path
) -> None:
    size = sum(map(len, files_of(sd_folder).values()))
    fits, small = (settings.model_copy(update={"max_model_bytes": most}) for most in (size, size - 1))
    fetched: list[str] = []
    with pytest.raises(ModelUnusable, match="MAX_MODEL_BYTES"):
        fetch(handle(prefix), settings=small, store=store, on_file=lambda: fetched.append("file"))
    assert (fetched, list(settings.model_cache_dir.iterdir())) == ([], [])
    assert fetch(handle(prefix), settings=fits, store=store).is_dir()


def test_an_index_that_is_too_large_is_not_read(settings: Settings, store: ObjectStore, prefix: str) -> None:
    store.put("models/tiny/model_index.json", b" " * (2**20 + 1), content_type="application/json")
    with pytest.raises(ModelUnusable, match="more than enough"):
        fetch(handle(prefix), settings=settings, store=store)


def test_a_model_that_is_forgotten_is_fetched_anew(settings: Settings, store: ObjectStore, prefix: str) -> None:
    model = handle(prefix)
    folder = fetch(model, settings=settings, store=store)
    forget_model(model, settings=settings)
    assert not folder.exists()
    store.put("models/tiny/vae/new.txt", b"new", content_type="text/plain")
    assert (fetch(model, settings=settings, store=store) / "vae" / "new.txt").read_bytes() == b"new"
    assert folder.is_dir()
    forget_model(handle("/a/folder/of/the/operator"), settings=settings)
