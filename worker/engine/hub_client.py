"""A repository on the Hugging Face hub → its files on this machine, as far as the model needs them."""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, wait
from functools import partial
from pathlib import Path

import httpx2
from huggingface_hub import HfApi
from huggingface_hub.errors import (
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils.tqdm import tqdm

from core.domain.errors import HubUnavailable, JobStopped, ModelUnusable
from core.infra.telemetry import without_queries
from worker.engine.model_cache import Fetching
from worker.engine.model_layout import INDEX, check_index_size, is_wanted, read_index

_TICK_SECONDS = 0.2
_NOT_NOW = (408, 429)


def fetch_from_hub(name: str, revision: str, fetching: Fetching, *, token: str | None) -> None:
    """Bring what a model needs of one commit of a repository.

    Raises:
        HubUnavailable: the hub is away, or answers that it cannot now.
        ModelUnusable: the hub does not give it, or it is no model.
    """
    hub, part = HfApi(token=token or False), fetching.part  # without one it would take what the environment has
    try:
        tree = hub.list_repo_tree(name, revision=revision, recursive=True)
        sizes = {entry.path: entry.size for entry in tree if isinstance(entry, RepoFile)}
        if INDEX not in sizes:
            raise ModelUnusable(f"{name} has no {INDEX}; a model is a repository in the diffusers layout.")
        check_index_size(sizes[INDEX])
        index = Path(hub.hf_hub_download(name, INDEX, revision=revision, local_dir=part))
        layout = read_index(index.read_bytes())
        files = sorted(_without_twins(file for file in sizes if is_wanted(file, layout.folders)))
        fetching.reserve(sum(sizes[file] for file in files))
        for file in files:
            fetching.on_file()
            _await(partial(hub.hf_hub_download, name, file, revision=revision, local_dir=part), fetching.heed)
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, httpx2.HTTPError) as error:
        kind = HubUnavailable if _is_away(error) else ModelUnusable
        raise kind(f"The hub does not give {name}: {_reason(error, token)}") from error


def _is_away(error: Exception) -> bool:
    if isinstance(error, LocalEntryNotFoundError):  # it was not to be had, and lies not here either
        error = error.__cause__ if isinstance(error.__cause__, Exception) else error
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code >= 500 or error.response.status_code in _NOT_NOW
    return isinstance(error, httpx2.HTTPError)


def _reason(error: Exception, token: str | None) -> str:
    reason = without_queries(str(error).strip().splitlines()[0])  # a file's last address is a signed one
    if token is None and isinstance(error, RepositoryNotFoundError):  # it says so of what is private or gated, too
        reason += " It was asked without a token: that is for shared models, and for what MODEL_SOURCES names."
    return reason


def _await(fetch: Callable[..., object], heed: Callable[[], None]) -> None:
    """See a fetch to its end, or leave it: it ends by itself with the next piece that comes, and leaves nothing."""
    done: Future[object] = Future()
    left = threading.Event()

    class Bar(tqdm):  # the one thing that the hub's client calls while a file comes
        def update(self, n: float | None = 1) -> bool | None:
            if left.is_set():
                raise JobStopped
            shown: bool | None = super().update(n)
            return shown

    def run() -> None:
        try:
            done.set_result(fetch(tqdm_class=Bar))
        except Exception as error:  # noqa: BLE001  # it is raised again where it is waited for
            done.set_exception(error)

    threading.Thread(target=run, name="hub", daemon=True).start()
    try:
        while not wait([done], timeout=_TICK_SECONDS).done:
            heed()
    except BaseException:
        left.set()
        raise
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
