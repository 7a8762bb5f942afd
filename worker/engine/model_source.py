"""ModelHandle → a folder on this machine: as it is, or fetched once from S3 or a hub."""

import fcntl
import hashlib
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TextIO

import httpx2
from huggingface_hub import HfApi
from huggingface_hub.errors import (
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from core.domain.base_model import ModelHandle, ModelSource, SourceKind, parse_source
from core.domain.errors import JobStopped, ModelUnusable, NotFound
from core.infra.object_store import ObjectStore
from core.infra.settings import Settings
from worker.engine.model_layout import INDEX, read_index, refuse_pickles

_TICK_SECONDS = 0.2
_SUFFIXES = (".safetensors", ".json", ".txt")


def fetch_model(
    model: ModelHandle,
    *,
    settings: Settings,
    store: ObjectStore,
    on_file: Callable[[], None] = lambda: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Path:
    """The model's folder; fetched into `settings.model_cache_dir` unless it is there already.

    Many threads and processes may ask at once; one of them fetches. What a crash left half done is gone on with.
    `on_file` is called before each file; what it raises ends the fetching. `should_stop` is asked all the while.

    Raises:
        JobStopped: `should_stop` said so.
        ModelUnusable: there is nothing there, or nothing that may be loaded.
        Unavailable: the object store is not reachable.
    """
    heed = partial(_heed, should_stop)
    heed()
    source = parse_source(model.source)
    if source.kind is SourceKind.FOLDER:
        folder = Path(source.location)
        if not folder.is_dir():
            raise ModelUnusable(f"This worker has no folder {folder}.")
        return folder
    if source.kind is SourceKind.S3:
        folder = _place(source, None, settings)
        return _once(folder, lambda part: _fetch_from_s3(source.location, part, store, on_file, heed), heed)
    revision, token = _pinned(model), _token(model, settings)
    folder = _place(source, revision, settings, with_token=token is not None)
    return _once(folder, lambda part: _fetch_from_hub(source.location, revision, part, token, on_file, heed), heed)


def _place(source: ModelSource, revision: str | None, settings: Settings, *, with_token: bool = False) -> Path:
    """What was fetched with the token lies apart: who may not use that must not find the files either."""
    name = f"{source.location}@{revision}{' with the token' if with_token else ''}"
    return settings.model_cache_dir / f"{source.kind}-{hashlib.sha256(name.encode()).hexdigest()[:32]}"


def _token(model: ModelHandle, settings: Settings) -> str | None:
    """The operator's, for what the operator has registered for all, or opened to all."""
    lent = model.shared or f"{model.source}/".startswith(settings.hub_places)
    return settings.hf_token.get_secret_value() if settings.hf_token and lent else None


def _heed(should_stop: Callable[[], bool]) -> None:
    if should_stop():
        raise JobStopped


def _once(folder: Path, fetch: Callable[[Path], None], heed: Callable[[], None]) -> Path:
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_suffix(".lock"), heed):
        if not folder.is_dir():
            part = folder.with_suffix(".part")
            part.mkdir(exist_ok=True)
            fetch(part)
            shutil.rmtree(part / ".cache", ignore_errors=True)
            part.rename(folder)
    return folder


@contextmanager
def _locked(path: Path, heed: Callable[[], None]) -> Iterator[None]:
    with path.open("w") as file:
        while not _took(file):
            heed()
            time.sleep(_TICK_SECONDS)
        yield


def _took(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _fetch_from_s3(
    location: str, part: Path, store: ObjectStore, on_file: Callable[[], None], heed: Callable[[], None]
) -> None:
    bucket, _, prefix = location.removeprefix("s3://").partition("/")
    prefix = f"{prefix}/" if prefix else ""
    try:
        sizes = {key.removeprefix(prefix): size for key, size in store.list(prefix, bucket=bucket)}
    except NotFound as error:
        raise ModelUnusable(error.message) from error
    if INDEX not in sizes:
        raise ModelUnusable(f"{location} has no {INDEX}; a model is a prefix in the diffusers layout.")
    refuse_pickles(sizes)
    store.download(f"{prefix}{INDEX}", part / INDEX, bucket=bucket)
    layout = read_index((part / INDEX).read_text())
    for name in sorted(sizes):
        if not _is_wanted(name, layout.folders):
            continue
        path = part / name
        if not path.is_file() or path.stat().st_size != sizes[name]:
            on_file()
            store.download(f"{prefix}{name}", path, bucket=bucket, on_piece=heed)


def _is_wanted(name: str, folders: Iterable[str]) -> bool:
    """Whether a file is part of the model: beside `model_index.json`, or in a folder that it names."""
    folder, slash, file = name.rpartition("/")
    if not slash:
        return Path(file).suffix == ".json"
    return folder in folders and Path(file).suffix in _SUFFIXES


def _pinned(model: ModelHandle) -> str:
    if model.revision is None or not re.fullmatch(r"[0-9a-f]{40}", model.revision):
        raise ModelUnusable("A model from a hub needs its revision pinned: the 40 hex digits of a commit.")
    return model.revision


def _fetch_from_hub(
    name: str, revision: str, part: Path, token: str | None, on_file: Callable[[], None], heed: Callable[[], None]
) -> None:
    hub = HfApi(token=token or False)  # without one it would take what it finds in the environment
    try:
        files = hub.list_repo_files(name, revision=revision)
        if INDEX not in files:
            raise ModelUnusable(f"{name} has no {INDEX}; a model is a repository in the diffusers layout.")
        index = Path(hub.hf_hub_download(name, INDEX, revision=revision, local_dir=part))
        layout = read_index(index.read_text())
        for file in sorted(_without_twins(file for file in files if _is_wanted(file, layout.folders))):
            on_file()
            _await(partial(hub.hf_hub_download, name, file, revision=revision, local_dir=part), heed)
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, httpx2.HTTPError) as error:
        raise ModelUnusable(f"The hub does not give {name}: {_reason(error, token)}") from error


def _reason(error: Exception, token: str | None) -> str:
    reason = str(error).strip().splitlines()[0]
    if token is None and isinstance(error, RepositoryNotFoundError):  # it says so of what is private or gated, too
        reason += " It was asked without a token: that is for shared models, and for what MODEL_SOURCES names."
    return reason


def _await(fetch: Callable[[], object], heed: Callable[[], None]) -> None:
    """See a fetch to its end, or leave it to itself: a hub's client cannot be stopped. What it brings is whole."""
    done: Future[object] = Future()

    def run() -> None:
        try:
            done.set_result(fetch())
        except Exception as error:  # noqa: BLE001  # it is raised again where it is waited for
            done.set_exception(error)

    threading.Thread(target=run, name="hub", daemon=True).start()
    while not wait([done], timeout=_TICK_SECONDS).done:
        heed()
    done.result()


def _without_twins(files: Iterable[str]) -> set[str]:
    """Leave out a component's other variants (fp16, non_ema …) where the plain weights are there."""
    kept = set(files)
    for name in list(kept):
        folder = name.partition("/")[0]
        plain = {f"{folder}/model.safetensors", f"{folder}/diffusion_pytorch_model.safetensors"}
        if name.endswith(".safetensors") and name not in plain and kept & plain:
            kept.discard(name)
    return kept
