import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydantic import SecretStr

from core.domain.errors import HubUnavailable, JobStopped, ModelUnusable
from core.infra.object_store import ObjectStore
from core.infra.settings import Settings
from tests.model_bench import REVISION, Hub, fetch, files_of, handle
from worker.engine.hub_client import _reason, _without_twins


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


@pytest.mark.parametrize("revision", [None, "main", REVISION[:-1], REVISION.upper()])
def test_a_hub_needs_a_pinned_revision(alone: Settings, revision: str | None) -> None:
    with pytest.raises(ModelUnusable, match="revision pinned"):
        fetch(handle("owner/name", revision), settings=alone, store=ObjectStore(alone))


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


def test_a_hub_gives_what_is_needed_once(alone: Settings, hub: Hub, sd_folder: Path) -> None:
    model, store = handle("owner/name", REVISION), ObjectStore(alone)
    folder = fetch(model, settings=alone, store=store)
    assert files_of(folder) == files_of(sd_folder)
    asked = len(hub.asked)
    assert fetch(model, settings=alone, store=store) == folder
    assert len(hub.asked) == asked


def test_a_hub_that_does_not_have_it(alone: Settings, hub: Hub) -> None:
    with pytest.raises(ModelUnusable, match="hub does not give owner/other"):
        fetch(handle("owner/other", REVISION), settings=alone, store=ObjectStore(alone))


def test_a_fetch_from_a_hub_stops_in_the_middle_of_a_file(alone: Settings, hub: Hub, sd_folder: Path) -> None:
    model, store = handle("owner/name", REVISION), ObjectStore(alone)
    hub.stuck_at = "vae/diffusion_pytorch_model.safetensors"
    with pytest.raises(JobStopped):
        fetch(model, settings=alone, store=store, should_stop=hub.is_stuck.is_set)
    hub.goes_on.set()
    for thread in threading.enumerate():
        if thread.name == "hub":
            thread.join(60)
    assert not [name for name in files_of(alone.model_cache_dir) if name.endswith((hub.stuck_at, ".incomplete"))]
    assert files_of(fetch(model, settings=alone, store=store)) == files_of(sd_folder)


@pytest.mark.parametrize("trouble", [0, 429, 500, 503])
def test_a_hub_that_cannot_now_is_not_the_models_fault(
    alone: Settings, hub: Hub, sd_folder: Path, monkeypatch: pytest.MonkeyPatch, trouble: int
) -> None:
    monkeypatch.setattr("huggingface_hub.utils._http.time", SimpleNamespace(sleep=lambda _: None))
    model, store = handle("owner/name", REVISION), ObjectStore(alone)
    hub.trouble = trouble
    with pytest.raises(HubUnavailable, match="hub does not give owner/name"):
        fetch(model, settings=alone, store=store)
    hub.trouble = None
    assert files_of(fetch(model, settings=alone, store=store)) == files_of(sd_folder)


def test_a_hub_that_refuses_a_file_does_not_give_the_model(alone: Settings, hub: Hub) -> None:
    hub.trouble = 403
    with pytest.raises(ModelUnusable, match="hub does not give owner/name"):
        fetch(handle("owner/name", REVISION), settings=alone, store=ObjectStore(alone))


LENT = {"Bearer hf_operator"}


@pytest.mark.parametrize(
    ("shared", "model_sources", "tokens"),
    [
        (True, "", LENT),
        (False, "", {None}),
        (False, "owner/name", LENT),
        (False, "s3://bucket/x, owner", LENT),
        (False, "owner/nam, own, s3://owner/name", {None}),
    ],
)
def test_the_token_is_for_what_the_operator_registered_or_opened(
    alone: Settings,
    hub: Hub,
    monkeypatch: pytest.MonkeyPatch,
    shared: bool,
    model_sources: str,
    tokens: set[str | None],
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_operator")  # where the hub's client would find it by itself
    settings = alone.model_copy(update={"hf_token": SecretStr("hf_operator"), "model_sources": model_sources})
    model = replace(handle("owner/name", REVISION), shared=shared)
    fetch(model, settings=settings, store=ObjectStore(settings))
    assert hub.tokens == tokens


def test_what_was_fetched_with_the_token_is_not_there_for_others(alone: Settings, hub: Hub) -> None:
    settings = alone.model_copy(update={"hf_token": SecretStr("hf_operator")})
    model, store = handle("owner/name", REVISION), ObjectStore(settings)
    folder = fetch(replace(model, shared=True), settings=settings, store=store)
    hub.files.clear()  # as a hub answers those who may not have it
    with pytest.raises(ModelUnusable, match="without a token"):
        fetch(model, settings=settings, store=store)
    assert fetch(replace(model, shared=True), settings=settings, store=store) == folder


def test_a_repository_that_is_too_large_is_refused_before_it_is_fetched(
    alone: Settings, hub: Hub, sd_folder: Path
) -> None:
    small = alone.model_copy(update={"max_model_bytes": sum(map(len, files_of(sd_folder).values())) - 1})
    with pytest.raises(ModelUnusable, match="MAX_MODEL_BYTES"):
        fetch(handle("owner/name", REVISION), settings=small, store=ObjectStore(small))
    assert not [path for path in hub.asked if path.endswith(".safetensors")]
    assert list(small.model_cache_dir.iterdir()) == []


def test_an_index_of_a_hub_that_is_too_large_is_not_read(alone: Settings, hub: Hub) -> None:
    hub.files["model_index.json"] = b" " * (2**20 + 1)
    with pytest.raises(ModelUnusable, match="more than enough"):
        fetch(handle("owner/name", REVISION), settings=alone, store=ObjectStore(alone))
    assert not [path for path in hub.asked if path.endswith("model_index.json")]


def test_what_a_hub_says_is_told_without_the_address_that_opens_a_file() -> None:
    error = OSError("Client error '403 Forbidden' for url 'https://cdn.example/file?Signature=c2VjcmV0'\nmore")
    assert _reason(error, "token") == "Client error '403 Forbidden' for url 'https://cdn.example/file?…'"
