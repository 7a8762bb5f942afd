"""ModelHandle → a folder on this machine: as it is, or fetched once from S3 or a hub."""

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from core.domain.base_model import ModelHandle, ModelSource, SourceKind, parse_source
from core.domain.errors import JobStopped, ModelUnusable, NotFound
from core.infra.object_store import ObjectStore
from core.infra.settings import Settings
from worker.engine.hub_client import fetch_from_hub
from worker.engine.model_cache import Fetching, ModelCache
from worker.engine.model_layout import INDEX, check_index_size, is_wanted, read_index, refuse_pickles

_GIB = 2**30


@contextmanager
def hold_model(
    model: ModelHandle,
    *,
    settings: Settings,
    store: ObjectStore,
    on_file: Callable[[], None] = lambda: None,
    at_work: Callable[[], None] = lambda: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[Path]:
    """The model's folder, for as long as it takes to load it; fetched into `settings.model_cache_dir` if need be.

    Many threads and processes may ask at once; one of them fetches. What a crash left half done is gone on with.
    `on_file` is called before each file; what it raises ends the fetching. Whoever fetches, or waits until another has,
    calls `at_work` all the while, and asks `should_stop`: a large file can take longer than anything else that is work.

    Raises:
        JobStopped: `should_stop` said so.
        ModelUnusable: there is nothing there, or nothing that may be loaded, or too much.
        Unavailable: the object store is not reachable, or there is no room.
    """
    heed = partial(_heed, should_stop, at_work)
    _heed(should_stop)
    source = parse_source(model.source)
    if source.kind is SourceKind.FOLDER:
        folder = Path(source.location)
        if not folder.is_dir():
            raise ModelUnusable(f"This worker has no folder {folder}.")
        yield folder
        return
    if source.kind is SourceKind.HUB:
        fetch = partial(fetch_from_hub, source.location, _pinned(model), token=_token(model, settings))
    else:
        fetch = partial(_fetch_from_s3, source.location, store)
    limit = min(settings.max_model_bytes, settings.model_cache_bytes)
    with cache_of(settings).hold(
        _name(model, source, settings), lambda it: fetch(_bounded(it, limit)), on_file=on_file, heed=heed
    ) as folder:
        yield folder


def forget_model(model: ModelHandle, *, settings: Settings) -> None:
    """Remove what was fetched of a model, unless somebody holds it."""
    source = parse_source(model.source)
    if source.kind is not SourceKind.FOLDER:
        cache_of(settings).forget(_name(model, source, settings))


def cache_of(settings: Settings) -> ModelCache:
    """Where this machine keeps what it fetched."""
    return ModelCache(settings.model_cache_dir, most_bytes=settings.model_cache_bytes)


def _name(model: ModelHandle, source: ModelSource, settings: Settings) -> str:
    """What was fetched with the token lies apart: who may not use that must not find the files either."""
    with_token = source.kind is SourceKind.HUB and _token(model, settings) is not None
    name = f"{source.location}@{model.revision}{' with the token' if with_token else ''}"
    return f"{source.kind}-{hashlib.sha256(name.encode()).hexdigest()[:32]}"


def _token(model: ModelHandle, settings: Settings) -> str | None:
    """The operator's, for what the operator has registered for all, or opened to all."""
    lent = model.shared or f"{model.source}/".startswith(settings.hub_places)
    return settings.hf_token.get_secret_value() if settings.hf_token and lent else None


def _heed(should_stop: Callable[[], bool], at_work: Callable[[], None] = lambda: None) -> None:
    if should_stop():
        raise JobStopped
    at_work()


def _bounded(fetching: Fetching, limit: int) -> Fetching:
    def reserve(size: int) -> None:
        if size > limit:
            raise ModelUnusable(
                f"The model has {size / _GIB:.2f} GiB; MAX_MODEL_BYTES and MODEL_CACHE_BYTES allow {limit / _GIB:.2f}."
            )
        fetching.reserve(size)

    return Fetching(fetching.part, reserve, fetching.on_file, fetching.heed)


def _fetch_from_s3(location: str, store: ObjectStore, fetching: Fetching) -> None:
    bucket, _, prefix = location.removeprefix("s3://").partition("/")
    prefix = f"{prefix}/" if prefix else ""
    try:
        sizes = {key.removeprefix(prefix): size for key, size in store.list(prefix, bucket=bucket)}
        if INDEX not in sizes:
            raise ModelUnusable(f"{location} has no {INDEX}; a model is a prefix in the diffusers layout.")
        check_index_size(sizes[INDEX])
        refuse_pickles(sizes)
        store.download(f"{prefix}{INDEX}", fetching.part / INDEX, bucket=bucket)
        layout = read_index((fetching.part / INDEX).read_bytes())
        names = sorted(name for name in sizes if is_wanted(name, layout.folders))
        fetching.reserve(sum(sizes[name] for name in names))
        for name in names:
            path = fetching.part / name
            if not path.is_file() or path.stat().st_size != sizes[name]:
                fetching.on_file()
                store.download(f"{prefix}{name}", path, bucket=bucket, on_piece=fetching.heed)
    except NotFound as error:
        raise ModelUnusable(error.message) from error


def _pinned(model: ModelHandle) -> str:
    if model.revision is None or not re.fullmatch(r"[0-9a-f]{40}", model.revision):
        raise ModelUnusable("A model from a hub needs its revision pinned: the 40 hex digits of a commit.")
    return model.revision
