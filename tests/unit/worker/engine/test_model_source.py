import gc
import itertools
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from uuid import uuid4

import pytest

from core.domain.base_model import LoadOptions, ModelHandle
from core.domain.errors import JobStopped, ModelUnusable, Unavailable
from core.infra.object_store import ObjectStore
from core.infra.settings import Settings
from worker.engine.model_source import _without_twins, fetch_model
from worker.engine.pipeline import load_pipeline

REVISION = "0123456789abcdef0123456789abcdef01234567"


def handle(source: str, revision: str | None = None) -> ModelHandle:
    return ModelHandle(uuid4(), "tiny", source, revision, LoadOptions())


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def prefix(store: ObjectStore, sd_folder: Path) -> str:
    for name, content in files_of(sd_folder).items():
        store.put(f"models/tiny/{name}", content, content_type="application/octet-stream")
    store.put("models/tiny/README.md", b"not needed", content_type="text/markdown")
    store.put("models/tiny/unet/run.py", b"not wanted", content_type="text/x-python")
    return f"s3://{store.bucket}/models/tiny"


def test_a_folder_is_taken_as_it_is(alone: Settings, sd_folder: Path) -> None:
    store = ObjectStore(alone)
    assert fetch_model(handle(str(sd_folder)), settings=alone, store=store) == sd_folder
    with pytest.raises(ModelUnusable, match="no folder"):
        fetch_model(handle("/not/there"), settings=alone, store=store)


def test_a_prefix_is_fetched_once(settings: Settings, store: ObjectStore, prefix: str, sd_folder: Path) -> None:
    folder = fetch_model(handle(prefix), settings=settings, store=store)
    assert files_of(folder) == files_of(sd_folder)
    for key, _ in list(store.list("models/")):
        store.delete(key)
    assert fetch_model(handle(prefix + "/"), settings=settings, store=store).is_dir()
    load_pipeline(fetch_model(handle(prefix), settings=settings, store=store), LoadOptions(), device="cpu")


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
        fetch_model(handle(prefix), settings=settings, store=store, on_file=stop_at_the_fourth)
    assert not [path for path in settings.model_dir.iterdir() if path.is_dir() and path.suffix != ".part"]
    fetched = 0

    def on_file() -> None:
        nonlocal fetched
        fetched += 1

    folder = fetch_model(handle(prefix), settings=settings, store=store, on_file=on_file)
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
        fetch_model(handle(prefix), settings=settings, store=store, on_file=on_file, should_stop=should_stop)
    [part] = settings.model_dir.glob("*.part")
    assert begun == files and not list(part.glob("vae/last*"))
    gc.collect()  # here, not in some test after this one


def test_whoever_waits_until_another_has_fetched_may_stop(settings: Settings, store: ObjectStore, prefix: str) -> None:
    begun, stopped = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        assert stopped.wait(60)

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(fetch_model, handle(prefix), settings=settings, store=store, on_file=wait)
        assert begun.wait(60)
        asked = itertools.count()
        with pytest.raises(JobStopped):
            fetch_model(handle(prefix), settings=settings, store=store, should_stop=lambda: next(asked) > 1)
        stopped.set()
        assert first.result().is_dir()


def test_many_ask_at_once(settings: Settings, store: ObjectStore, prefix: str) -> None:
    calls: list[str] = []
    with ThreadPoolExecutor(6) as pool:
        folders = list(
            pool.map(
                lambda _: fetch_model(
                    handle(prefix), settings=settings, store=store, on_file=lambda: calls.append("file")
                ),
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
        fetch_model(handle(prefix), settings=settings, store=store)


@pytest.mark.parametrize("name", ["nothing/here", ""])
def test_a_prefix_that_holds_no_model(settings: Settings, store: ObjectStore, name: str) -> None:
    with pytest.raises(ModelUnusable, match=r"has no model_index\.json"):
        fetch_model(handle(f"s3://{store.bucket}/{name}"), settings=settings, store=store)


def test_a_bucket_that_is_not_there(settings: Settings, store: ObjectStore) -> None:
    with pytest.raises(ModelUnusable):
        fetch_model(handle("s3://no-such-bucket/model"), settings=settings, store=store)


def test_a_store_that_is_away_is_not_the_models_fault(alone: Settings) -> None:
    with pytest.raises(Unavailable):
        fetch_model(handle("s3://bucket/model"), settings=alone, store=ObjectStore(alone))


@pytest.mark.parametrize("revision", [None, "main", REVISION[:-1], REVISION.upper()])
def test_a_hub_needs_a_pinned_revision(alone: Settings, revision: str | None) -> None:
    with pytest.raises(ModelUnusable, match="revision pinned"):
        fetch_model(handle("owner/name", revision), settings=alone, store=ObjectStore(alone))


def test_variants_are_left_out_where_the_plain_weights_are() -> None:
    names = [
        "unet/diffusion_pytorch_model.safetensors",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "unet/diffusion_pytorch_model.non_ema.safetensors",
        "unet/config.json",
        "vae/diffusion_pytorch_model.fp16.safetensors",
        "text_encoder/model-00001-of-00002.safetensors",
    ]
    assert _without_twins(names) == {names[0], *names[3:]}


class Hub:
    """As much of a hub's HTTP interface as listing and fetching the files of one commit takes."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.asked: list[str] = []
        self.stuck_at: str | None = None
        self.is_stuck, self.goes_on = threading.Event(), threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(handler) -> None:
                handler.answer(with_body=False)

            def do_GET(handler) -> None:
                handler.answer(with_body=True)

            def answer(handler, *, with_body: bool) -> None:
                path = handler.path.partition("?")[0]
                if with_body:
                    self.asked.append(path)
                listing = f"/api/models/owner/name/tree/{REVISION}"
                entries = [
                    {"type": "file", "path": file, "size": len(content), "oid": "0" * 40}
                    for file, content in files.items()
                ]
                name = path.removeprefix(f"/owner/name/resolve/{REVISION}/")
                known = files | {listing: json.dumps(entries).encode()}
                body = known.get(name)
                handler.send_response(404 if body is None else 200)
                if body is None:
                    handler.send_header("X-Error-Code", "RepoNotFound")
                handler.send_header("Content-Length", str(len(body or b"")))
                handler.send_header("ETag", f'"{hash(body)}"')
                handler.send_header("X-Repo-Commit", REVISION)
                handler.end_headers()
                if with_body and name == self.stuck_at:
                    self.is_stuck.set()
                    assert self.goes_on.wait(60)
                if with_body:
                    handler.wfile.write(body or b"")

            def log_message(handler, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def hub(sd_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    extra = {"sd.ckpt": b"\x80", "unet/diffusion_pytorch_model.bin": b"\x80", "unet/a.py": b"", "big.safetensors": b""}
    hub = Hub(files_of(sd_folder) | extra)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    yield hub
    hub.server.shutdown()
    hub.server.server_close()


def test_a_hub_gives_what_is_needed_once(alone: Settings, hub: Hub, sd_folder: Path) -> None:
    model, store = handle("owner/name", REVISION), ObjectStore(alone)
    folder = fetch_model(model, settings=alone, store=store)
    assert files_of(folder) == files_of(sd_folder)
    asked = len(hub.asked)
    assert fetch_model(model, settings=alone, store=store) == folder
    assert len(hub.asked) == asked


def test_a_hub_that_does_not_have_it(alone: Settings, hub: Hub) -> None:
    with pytest.raises(ModelUnusable, match="hub does not give owner/other"):
        fetch_model(handle("owner/other", REVISION), settings=alone, store=ObjectStore(alone))


def test_a_fetch_from_a_hub_stops_in_the_middle_of_a_file(alone: Settings, hub: Hub, sd_folder: Path) -> None:
    model, store = handle("owner/name", REVISION), ObjectStore(alone)
    hub.stuck_at = "vae/diffusion_pytorch_model.safetensors"
    with pytest.raises(JobStopped):
        fetch_model(model, settings=alone, store=store, should_stop=hub.is_stuck.is_set)
    hub.goes_on.set()
    assert files_of(fetch_model(model, settings=alone, store=store)) == files_of(sd_folder)
