"""Adapters over HTTP, on the real store."""

import io
import urllib.request
from typing import Any

import pytest

from core.domain.job import JobKind
from core.infra.safetensors_file import read_header
from tests.api_bench import MODULES, Tenancy, encode, lora
from tests.integration.api.test_dataset import PNG
from tests.unit.core.infra.test_adapter_file import kohya

pytestmark = pytest.mark.usefixtures("model_id")


def send(tenant: Tenancy, content: bytes | None = None, /, **data: Any) -> Any:
    files = {"file": ("style.safetensors", encode(lora()) if content is None else content)}
    return tenant.post("/api/adapters", data={"name": "style"} | data, files=files)


def fields(answer: Any) -> set[str]:
    assert answer.status_code == 422, answer.text
    return {error["field"] for error in answer.json()["errors"]}


def test_an_import_becomes_the_next_version(tenant: Tenancy) -> None:
    first = send(tenant, description="mine", trigger_word="sks")
    assert first.status_code == 201, first.text
    adapter = first.json()
    assert first.headers["Location"] == adapter["urls"]["self"]
    assert (adapter["ref"], adapter["rank"], adapter["alpha"], adapter["job_id"]) == ("style@1", 4, 4.0, None)
    manifest = tenant.get(adapter["urls"]["manifest"]).json()
    assert list(manifest)[:3] == ["name", "description", "model"]
    assert (manifest["model"], manifest["trigger_word"], manifest["family"]) == ("lorikeet-tiny", "sks", "sd1")
    assert send(tenant).json()["ref"] == "style@2"
    assert tenant.get(adapter["urls"]["self"]).json()["sha256"] == adapter["sha256"]


def test_the_files_can_be_fetched_without_a_key(tenant: Tenancy, hidden: Tenancy) -> None:
    for who in (tenant, hidden):
        if who is hidden:
            hidden.register_model("tiny-2", shared=False)
        adapter = send(who, encode(kohya()), base_model="lorikeet-tiny" if who is tenant else "tiny-2").json()
        for form, names in (("diffusers", ".lora_A.weight"), ("kohya", ".lora_down.weight")):
            content, disposition = fetch(who, adapter["urls"][form])
            assert disposition.startswith('attachment; filename="style-')
            assert any(tensor.name.endswith(names) for tensor in read_header(io.BytesIO(content)).tensors)
    assert send(tenant).json()["urls"]["kohya"] is None


def fetch(tenant: Tenancy, url: str) -> tuple[bytes, str]:
    """What is there, and what a browser is told to do with it."""
    if url.startswith("http://testserver"):
        answer = tenant.http.get(url)
        assert answer.status_code == 200
        assert answer.headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
        return bytes(answer.content), answer.headers["Content-Disposition"]
    with urllib.request.urlopen(url) as response:
        return bytes(response.read()), response.headers["Content-Disposition"]


@pytest.mark.parametrize(
    ("data", "wrong"),
    [
        ({"name": ""}, {"name"}),
        ({"name": "../x"}, {"name"}),
        ({"base_model": "none"}, {"base_model"}),
        ({"alpha": "x"}, {"alpha"}),
        ({"alpha": "-1", "description": "x" * 2001}, {"alpha", "description"}),
        ({"alpha": "nan"}, {"alpha"}),
        ({"extra": "1"}, {"extra"}),
        ({"trigger_word": "a\x00"}, {"trigger_word"}),
    ],
)
def test_wrong_fields_are_named(tenant: Tenancy, data: dict[str, str], wrong: set[str]) -> None:
    assert fields(send(tenant, **data)) == wrong


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x04\x95pickle",
        b"PK\x03\x04zip",
        encode(lora())[:-1],
        encode({"unet.x.lora_A.weight": lora()[next(iter(lora()))]}),
    ],
)
def test_what_is_no_lora_for_the_model_is_refused_and_not_kept(tenant: Tenancy, content: bytes) -> None:
    assert fields(send(tenant, content)) == {"file"}
    assert list(tenant.runtime.store.list("tenant/")) == []


def test_one_file_is_wanted(tenant: Tenancy) -> None:
    two = [("file", encode(lora())), ("file", encode(lora()))]
    assert fields(tenant.post("/api/adapters", data={"name": "a"}, files=two)) == {"file"}
    assert fields(tenant.post("/api/adapters", files={"name": (None, "a")})) == {"file"}
    assert tenant.post("/api/adapters", json={"name": "a"}).status_code == 415


def test_alpha_of_a_file_that_does_not_tell_it(tenant: Tenancy) -> None:
    assert send(tenant, alpha="8").json()["alpha"] == 8.0


def test_lists_by_name(tenant: Tenancy) -> None:
    for name in ("one", "two", "one"):
        send(tenant, name=name)
    refs = [each["ref"] for each in tenant.get("/api/adapters").json()["items"]]
    assert refs == ["one@2", "two@1", "one@1"]
    page = tenant.get("/api/adapters?name=one&limit=1").json()
    assert [each["ref"] for each in page["items"]] == ["one@2"]
    rest = tenant.get(f"/api/adapters?name=one&limit=1&cursor={page['next_cursor']}").json()
    assert ([each["ref"] for each in rest["items"]], rest["next_cursor"]) == (["one@1"], None)


def test_delete_waits_for_jobs_and_takes_the_files_along(tenant: Tenancy) -> None:
    adapter, twin = (send(tenant, encode(kohya())).json() for _ in range(2))
    job = tenant.generate(adapters=[{"ref": "style@1"}]).json()
    refused = tenant.call("DELETE", adapter["urls"]["self"])
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    tenant.post(job["urls"]["cancel"])
    assert tenant.call("DELETE", adapter["urls"]["self"]).status_code == 204
    assert tenant.get(adapter["urls"]["self"]).status_code == 404
    assert len(list(tenant.runtime.store.list("tenant/"))) == 2, "the twin's files stay"
    assert fetch(tenant, twin["urls"]["diffusers"])[0]


@pytest.mark.parametrize("wins", [True, False])
def test_an_adapter_stays_while_there_is_a_word_on_a_picture_of_it(tenant: Tenancy, wins: bool) -> None:
    adapter = send(tenant).json()
    [base] = tenant.draw_several(prompt="a star")
    [drawn] = tenant.draw_several(prompt="a star", shown={"adapters": [{"id": adapter["id"]}]})
    chosen, rejected = (drawn, base) if wins else (base, drawn)
    word = {"kind": "choice", "chosen": chosen["id"], "rejected": rejected["id"], "user_ref": "ann"}
    assert tenant.post("/api/feedback", json=word).status_code == 201
    refused = tenant.call("DELETE", adapter["urls"]["self"])
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")


def test_an_import_and_trainings_count_versions_together(tenant: Tenancy) -> None:
    dataset = tenant.post("/api/datasets", data={"name": "d"}, files={"images": ("a.png", PNG)}).json()["id"]
    training = {"dataset_id": dataset, "name": "style", "rank": 4}
    for _ in range(2):
        assert tenant.post("/api/fine-tune", json=training).status_code == 202
    assert [tenant.claim(JobKind.TRAINING).plan["adapter_version"] for _ in range(2)] == [1, 2]
    assert send(tenant).json()["version"] == 3
    assert send(tenant, name="other").json()["version"] == 1


def test_convolutions_can_be_imported(tenant: Tenancy) -> None:
    assert send(tenant, encode(lora({"unet.conv_in": MODULES["unet.conv_in"]}, rank=2))).json()["rank"] == 2
