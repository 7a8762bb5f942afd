"""Datasets over HTTP, on the real store."""

import io
import json
import zipfile
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from PIL import Image
from sqlalchemy import text

from core.infra.image_file import MAX_BYTES
from core.services.upkeep import remove_abandoned
from tests.api_bench import Tenancy
from tests.raw_request import RawRequest


def png(color: str = "red", size: tuple[int, int] = (80, 64)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, "PNG")
    return buffer.getvalue()


PNG = png()


def upload(tenant: Tenancy, *captions: str, name: str = "mine", pictures: dict[str, bytes] | None = None) -> Any:
    files = [("images", item) for item in (pictures or {"a.png": PNG, "b.png": png("blue")}).items()]
    return tenant.post("/api/datasets", data={"name": name, "captions": list(captions)}, files=files)


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def fields(answer: Any) -> set[str]:
    assert answer.status_code == 422, answer.text
    return {error["field"] for error in answer.json()["errors"]}


def keys(tenant: Tenancy) -> set[str]:
    return {key for key, _ in tenant.runtime.store.list("dataset/")}


def test_pictures_and_captions_in_a_form(tenant: Tenancy) -> None:
    answer = upload(tenant, "a red one", "a blue one")
    assert answer.status_code == 201, answer.text
    dataset = answer.json()
    assert answer.headers["Location"] == dataset["urls"]["self"]
    assert (dataset["status"], dataset["num_images"], dataset["uploads"]) == ("ready", 2, [])
    assert [(image["file_name"], image["caption"]) for image in dataset["images"]] == [
        ("a.png", "a red one"),
        ("b.png", "a blue one"),
    ]
    assert tenant.get(dataset["urls"]["self"]).json() == dataset
    assert len(keys(tenant)) == 2


def test_a_dataset_that_is_never_completed_goes_with_what_was_uploaded(tenant: Tenancy) -> None:
    spec = {"name": "mine", "images": [{"file_name": "a.png"}]}
    days, store = tenant.runtime.settings.retention_days, tenant.runtime.store
    waiting, forgotten = (tenant.post("/api/datasets", json=spec).json() for _ in range(2))
    ready = upload(tenant, "a", "b").json()
    began, ends = (datetime.fromisoformat(forgotten[name]) for name in ("created_at", "expires_at"))
    assert (ends - began, ready["expires_at"]) == (timedelta(days=days), None)
    for dataset in (waiting, forgotten):
        store.put(f"dataset/{dataset['id']}/upload/0", PNG, content_type="image/png")
    with tenant.runtime.database.transaction() as session:
        old = text("UPDATE dataset SET created_at = now() - make_interval(days => :days, mins => 1) WHERE id = :id")
        for dataset in (forgotten, ready):
            session.execute(old, {"days": days, "id": dataset["id"]})
    before = keys(tenant)
    with tenant.runtime.database.transaction() as session:
        assert remove_abandoned(session, store=store, retention=tenant.runtime.settings.retention) == 1
    assert before - keys(tenant) == {f"dataset/{forgotten['id']}/upload/0"}
    assert [tenant.get(each["urls"]["self"]).status_code for each in (forgotten, waiting, ready)] == [404, 200, 200]
    assert tenant.post(forgotten["urls"]["complete"]).status_code == 404


def test_the_same_pictures_and_captions_have_the_same_digest(tenant: Tenancy) -> None:
    first, second = upload(tenant, "x", "y").json(), upload(tenant, "x", "y", name="other").json()
    third = upload(tenant, "x", "z").json()
    assert first["digest"] == second["digest"] != third["digest"]


def test_captions_of_one_file_name_twice(tenant: Tenancy) -> None:
    captions = '{"a.png": "one", "a.png": "two"}'
    answer = tenant.post("/api/datasets", data={"name": "d", "captions": captions}, files=[("images", ("a.png", PNG))])
    assert fields(answer) == {"captions"}


def test_captions_by_file_name(tenant: Tenancy) -> None:
    dataset = upload(tenant, json.dumps({"b.png": "blue"})).json()
    assert [image["caption"] for image in dataset["images"]] == ["", "blue"]
    assert fields(upload(tenant, json.dumps({"c.png": "green"}))) == {"captions"}
    assert fields(upload(tenant, '{"a.png": ')) == {"captions"}


@pytest.mark.parametrize(
    ("files", "data", "wrong"),
    [
        ({"name": (None, "d")}, {}, {"images"}),
        ({"images": ("a.png", PNG)}, {}, {"name"}),
        ({"images": ("a.png", PNG)}, {"name": "x" * 201}, {"name"}),
        ({"images": ("a.png", PNG)}, {"name": "a\x00b"}, {"name"}),
        ({"images": ("a.png", PNG)}, {"name": "d", "captions": ["1", "2"]}, {"captions"}),
        ({"images": ("a.png", PNG)}, {"name": "d", "captions": "x" * 10_001}, {"images.0"}),
        ({"images": ("a.png", PNG)}, {"name": "d", "extra": "1"}, {"extra"}),
        ({"images": ("a.png", PNG), "archive": ("a.zip", b"x")}, {"name": "d"}, {"images"}),
        ({"images": ("a.png", b"<svg/>")}, {"name": "d"}, {"images.0"}),
        ({"archive": ("a.zip", b"x")}, {"name": "d"}, {"archive"}),
        ({"name": ("a.png", PNG), "images": ("a.png", PNG)}, {}, {"name"}),
    ],
)
def test_what_is_wrong_is_named_and_leaves_nothing(
    tenant: Tenancy, files: Any, data: dict[str, Any], wrong: set[str]
) -> None:
    assert fields(tenant.post("/api/datasets", data=data, files=files)) == wrong
    assert keys(tenant) == set()
    assert tenant.get("/api/datasets").json()["items"] == []


def test_every_broken_picture_is_named(tenant: Tenancy) -> None:
    answer = upload(tenant, pictures={"a.png": PNG, "b.png": b"x", "c.png": PNG[:-40]})
    assert fields(answer) == {"images.1", "images.2"}
    assert keys(tenant) == set()


def test_a_zip_in_a_form_or_alone(tenant: Tenancy) -> None:
    content = zipped({"b.png": png("blue"), "a.png": PNG, "a.txt": b"a red one"})
    first = tenant.post("/api/datasets", data={"name": "zip"}, files={"archive": ("x.zip", content)})
    second = tenant.post("/api/datasets?name=zip", content=content, headers={"Content-Type": "application/zip"})
    for answer in (first, second):
        assert answer.status_code == 201, answer.text
        assert [(image["file_name"], image["caption"]) for image in answer.json()["images"]] == [
            ("a.png", "a red one"),
            ("b.png", ""),
        ]
    evil = zipped({"../a.png": PNG})
    assert fields(tenant.post("/api/datasets", data={"name": "z"}, files={"archive": ("x.zip", evil)})) == {"archive"}
    broken = zipped({"a.png": b"x"})
    assert fields(tenant.post("/api/datasets", data={"name": "z"}, files={"archive": ("x.zip", broken)})) == {
        "archive.a.png"
    }


def test_other_content_types_are_refused(tenant: Tenancy) -> None:
    for content_type in ("text/plain", "image/png", ""):
        answer = tenant.post("/api/datasets", content=b"x", headers={"Content-Type": content_type})
        assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")
    broken = tenant.post("/api/datasets", content=b"x", headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert broken.status_code == 400


def open_dataset(tenant: Tenancy) -> dict[str, Any]:
    images = [{"file_name": "a.png", "caption": "red"}, {"file_name": "../b.png", "caption": "blue"}]
    answer = tenant.post("/api/datasets", json={"name": "later", "images": images})
    assert answer.status_code == 201, answer.text
    dataset: dict[str, Any] = answer.json()
    return dataset


def put(tenant: Tenancy, url: str, content: bytes) -> int:
    """Without a key, as a browser would."""
    status: int = tenant.http.put(url, content=content).status_code
    return status


def test_pictures_uploaded_one_by_one(tenant: Tenancy) -> None:
    dataset = open_dataset(tenant)
    assert dataset["status"] == "open"
    assert [each["file_name"] for each in dataset["uploads"]] == ["a.png", "b.png"]
    first, second = (each["url"] for each in dataset["uploads"])
    assert put(tenant, first, PNG) == 204
    answer = tenant.post(dataset["urls"]["complete"])
    assert fields(answer) == {"images.1"}
    assert "has not been uploaded" in answer.text
    assert put(tenant, second, b"x") == 204
    assert fields(tenant.post(dataset["urls"]["complete"])) == {"images.1"}
    assert put(tenant, second, png("blue")) == 204
    done = tenant.post(dataset["urls"]["complete"]).json()
    assert (done["status"], done["uploads"], done["urls"]["complete"]) == ("ready", [], None)
    assert done["digest"] == upload(tenant, "red", "blue").json()["digest"]
    assert tenant.post(dataset["urls"]["complete"]).json() == done, "a second time changes nothing"
    assert put(tenant, first, PNG) == 404, "a complete dataset takes no more"
    assert not [key for key in keys(tenant) if "/upload/" in key]


def test_an_upload_url_is_for_one_picture_only(tenant: Tenancy) -> None:
    dataset = open_dataset(tenant)
    first = dataset["uploads"][0]["url"]
    assert put(tenant, first.replace("/uploads/0", "/uploads/1"), PNG) == 401
    assert put(tenant, first.partition("?")[0], PNG) == 401
    assert tenant.call("PUT", first.partition("?")[0], content=PNG).status_code == 401
    assert tenant.http.get(first).status_code == 405


def test_pictures_come_through_the_api_where_clients_reach_the_store_as_well(tenant: Tenancy, hidden: Tenancy) -> None:
    assert tenant.runtime.store.is_public
    for each in (tenant, hidden):
        assert open_dataset(each)["uploads"][0]["url"].startswith(f"{each.http.base_url}/api/datasets/")


def test_a_picture_that_is_uploaded_has_an_end(tenant: Tenancy) -> None:
    url = urlsplit(open_dataset(tenant)["uploads"][0]["url"])
    request = RawRequest("PUT", f"{url.path}?{url.query}", {}, [bytes(2**20)] * 70)
    assert request.send(tenant) == 422
    assert f"at most {MAX_BYTES} bytes".encode() in request.body
    assert keys(tenant) == set()


@pytest.mark.parametrize(
    "body",
    [
        *({"name": "x", "images": [{"file_name": name}]} for name in ("", "/", ".", "a/..", "\\", "//")),
        *({"name": "x"}, {"name": "x", "images": []}, {"images": 5}, [], 5),
    ],
)
def test_a_strange_list_of_uploads_is_refused(tenant: Tenancy, body: Any) -> None:
    assert tenant.post("/api/datasets", json=body).status_code == 422


def test_delete_takes_the_pictures_along_unless_a_training_reads_them(
    tenant: Tenancy, stranger: Tenancy, model_id: Any
) -> None:
    dataset = upload(tenant).json()
    job = tenant.post("/api/fine-tune", json={"dataset_id": dataset["id"], "name": "s", "rank": 4}).json()
    refused = tenant.call("DELETE", dataset["urls"]["self"])
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    tenant.post(job["urls"]["cancel"])
    assert tenant.call("DELETE", dataset["urls"]["self"]).status_code == 204
    assert tenant.get(dataset["urls"]["self"]).status_code == 404
    assert tenant.get(job["urls"]["self"]).status_code == 200
    assert keys(tenant) == set()


def test_lists_count_pictures(tenant: Tenancy) -> None:
    names = ["one", "two", "three"]
    for name in names:
        upload(tenant, name=name)
    page = tenant.get("/api/datasets?limit=2").json()
    assert [(each["name"], each["num_images"]) for each in page["items"]] == [("three", 2), ("two", 2)]
    rest = tenant.get(f"/api/datasets?limit=2&cursor={page['next_cursor']}").json()
    assert ([each["name"] for each in rest["items"]], rest["next_cursor"]) == (["one"], None)
