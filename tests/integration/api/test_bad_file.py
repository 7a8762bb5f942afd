"""Files that are none, at every route that takes one: a problem that names the field, and nothing is kept or run."""

import base64
import io
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.infra.image_file import MAX_BYTES
from core.infra.safetensors_file import read_header
from tests.api_bench import Tenancy, encode, lora
from tests.body_bench import named, refusal, traces
from tests.integration.api.test_dataset import PNG, png, zipped
from tests.poison import checkpoint, laden_lora, pickled, poisons
from tests.unit.core.infra.test_adapter_file import kohya
from tests.unit.core.infra.test_image_file import BOMBS, DISGUISED, chunk, long_apng, long_webp, png_of

pytestmark = pytest.mark.usefixtures("model_id")


def as_adapter(tenant: Tenancy, content: bytes, name: str) -> Any:
    return tenant.post("/api/adapters", data={"name": "s"}, files={"file": (name, content)})


def as_picture(tenant: Tenancy, content: bytes, name: str) -> Any:
    return tenant.post("/api/datasets", data={"name": "d"}, files=[("images", (name, content))])


def as_archive(tenant: Tenancy, content: bytes, name: str) -> Any:
    return tenant.post("/api/datasets", data={"name": "d"}, files={"archive": (name, content)})


def as_body(tenant: Tenancy, content: bytes, _: str) -> Any:
    return tenant.post("/api/datasets?name=d", content=content, headers={"Content-Type": "application/zip"})


def in_archive(tenant: Tenancy, content: bytes, _: str) -> Any:
    return as_archive(tenant, zipped({"a.png": content}), "a.zip")


def as_beginning(tenant: Tenancy, content: bytes, _: str) -> Any:
    return tenant.generate(init_image="data:image/png;base64," + base64.b64encode(content).decode())


ROUTES: dict[Callable[[Tenancy, bytes, str], Any], str] = {
    as_adapter: "file",
    as_picture: "images.0",
    as_archive: "archive",
    as_body: "archive",
    in_archive: "archive.a.png",
    as_beginning: "init_image",
}
PICTURE_ROUTES = [as_picture, in_archive, as_beginning]


def test_the_poison_is_alive(tmp_path: Path) -> None:
    program = "import pickle, sys; pickle.load(sys.stdin.buffer)"
    subprocess.run([sys.executable, "-c", program], input=pickled(tmp_path / "mark"), check=True)
    assert (tmp_path / "mark").exists()


@pytest.mark.parametrize("send", ROUTES)
@pytest.mark.parametrize("name", ["model.ckpt", "pytorch_lora_weights.bin", "lora.pt", "lora.safetensors", "a.png"])
def test_a_pickle_is_refused_whatever_it_is_called(
    tenant: Tenancy, tmp_path: Path, send: Callable[[Tenancy, bytes, str], Any], name: str
) -> None:
    before, mark = traces(tenant), tmp_path / "mark"
    for what, content in poisons(mark).items():
        answer = send(tenant, content, name)
        # a checkpoint is a zip, and in that there is no picture
        assert refusal(answer) == named(ROUTES[send]), (what, answer.text)
    assert traces(tenant) == before
    assert not mark.exists()


def test_an_upload_url_takes_bytes_and_nobody_believes_them(hidden: Tenancy, tmp_path: Path) -> None:
    for content in poisons(tmp_path / "mark").values():
        body = {"name": "d", "images": [{"file_name": "a.png"}]}
        dataset = hidden.post("/api/datasets", json=body).json()
        assert hidden.http.put(dataset["uploads"][0]["url"], content=content).status_code == 204
        assert refusal(hidden.post(dataset["urls"]["complete"])) == named("images.0")
        assert hidden.get(dataset["urls"]["self"]).json()["status"] == "open"
    assert not (tmp_path / "mark").exists()


def test_numbers_that_look_like_a_pickle_are_numbers(tenant: Tenancy, tmp_path: Path) -> None:
    tensors = laden_lora(tmp_path / "mark")
    answer = as_adapter(tenant, encode(tensors), "lora.safetensors")
    assert answer.status_code == 201, answer.text
    [key] = [key for key, _ in tenant.runtime.store.list("") if key.endswith("/adapter.safetensors")]
    kept = tenant.runtime.store.get(key)
    assert {tensor.name for tensor in read_header(io.BytesIO(kept)).tensors} == set(tensors)
    assert not (tmp_path / "mark").exists()


def test_free_text_of_a_lora_is_not_kept(tenant: Tenancy, tmp_path: Path) -> None:
    text = {"ss_comment": pickled(tmp_path / "mark").decode()}
    for tensors, expected in ((lora(), 1), (kohya(), 2)):
        answer = as_adapter(tenant, encode(tensors, text), "a.safetensors")
        assert answer.status_code == 201
        prefix = f"tenant/{tenant.id}/adapter/{answer.json()['sha256']}/"
        kept = [tenant.runtime.store.get(key) for key, _ in tenant.runtime.store.list(prefix)]
        assert len(kept) == expected
        assert [content for content in kept if b"posix" in content] == []
    assert {tensor.name for tensor in read_header(io.BytesIO(kept[-1])).tensors} == set(kohya())


@pytest.mark.parametrize("send", PICTURE_ROUTES)
def test_what_is_no_picture_leaves_no_trace(tenant: Tenancy, send: Callable[[Tenancy, bytes, str], Any]) -> None:
    before = traces(tenant)
    bad = list(DISGUISED.values())
    bad += [png_of(chunk(name.encode(), content)) for name, content in BOMBS.items() if name != "IDAT"]
    bad += [png_of(width=2**31 - 1, height=2**31 - 1), long_apng(), long_webp(), PNG[:-40], checkpoint(Path("/x"))]
    for content in bad:
        answer = send(tenant, content, "a.png")
        status, _, fields = refusal(answer)
        # the bombs are packed too tightly for an archive, which then is what is refused
        assert (status, fields <= {ROUTES[send], "archive"}, len(fields)) == (422, True, 1), answer.text
    assert traces(tenant) == before


def test_a_picture_of_every_length_but_its_own(tenant: Tenancy) -> None:
    content, before = png(size=(3, 2)), traces(tenant)
    pictures = [("images", (f"{length}.png", content[:length])) for length in range(len(content) - 24)]
    answer = tenant.post("/api/datasets", data={"name": "d"}, files=pictures)
    assert refusal(answer) == named(*(f"images.{index}" for index in range(len(pictures))))
    assert traces(tenant) == before


def test_a_picture_of_too_many_bytes(tenant: Tenancy) -> None:
    answer = as_picture(tenant, PNG + bytes(MAX_BYTES), "a.png")
    assert refusal(answer) == named("images.0")
    assert "bytes" in answer.text


def linked() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        link = zipfile.ZipInfo("a.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    return buffer.getvalue()


def patched(content: bytes, *changes: tuple[bytes, int, bytes]) -> bytes:
    """With other bytes at an offset from the first of each signature."""
    changed = bytearray(content)
    for signature, offset, new in changes:
        at = changed.index(signature) + offset
        changed[at : at + len(new)] = new
    return bytes(changed)


LOCAL, CENTRAL, END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
PLAIN = zipped({"a.png": PNG, "b.png": png("blue")})
ARCHIVES = {
    "leads out": zipped({"../../a.png": PNG}),
    "is absolute": zipped({"/etc/a.png": PNG}),
    "is of another system": zipped({"..\\a.png": PNG}),
    "is a drive": zipped({"C:a.png": PNG}),
    "is a link": linked(),
    "is encrypted": patched(PLAIN, (LOCAL, 6, b"\1"), (CENTRAL, 8, b"\1")),
    "is nested": zipped({"a.png": PNG, "b.zip": zipped({"c.png": PNG})}),
    "is a bomb": zipped({"a.png": bytes(2**26)}),
    "is too many": zipped({f"{number}.png": b"" for number in range(5001)}),
    "has a name twice": patched(PLAIN, (b"b.png", 0, b"a.png")).replace(b"b.png", b"a.png"),
    "has another name inside": patched(PLAIN, (b"a.png", 0, b"c.png")),
    "says that it is smaller": patched(PLAIN, (CENTRAL, 24, (10).to_bytes(4, "little"))),
    "says that it is larger": patched(PLAIN, (CENTRAL, 24, (2**30).to_bytes(4, "little"))),
    "says nothing of its size": patched(PLAIN, (CENTRAL, 20, bytes(8))),
    "is packed in a way that nobody knows": patched(PLAIN, (LOCAL, 8, b"\x63"), (CENTRAL, 10, b"\x63")),
    "has another sum": patched(PLAIN, (CENTRAL, 16, b"\0\0\0\0"), (LOCAL, 14, b"\0\0\0\0")),
    "begins elsewhere": patched(PLAIN, (CENTRAL, 42, b"\xff\xff\xff\x7f")),
    "has a directory of another length": patched(PLAIN, (END, 12, b"\xff\xff\xff\x7f")),
    "is cut short": PLAIN[:-10],
    "is a run-time of its own": b"MZ" + PLAIN[2:],
}


@pytest.mark.parametrize("send", [as_archive, as_body])
def test_an_archive_that_lies_leaves_no_trace(tenant: Tenancy, send: Callable[[Tenancy, bytes, str], Any]) -> None:
    before = traces(tenant)
    for what, content in ARCHIVES.items():
        answer = send(tenant, content, "a.zip")
        status, content_type, fields = refusal(answer)
        assert (status, content_type) == (422, "application/problem+json"), (what, answer.text)
        assert all(field.partition(".")[0] == "archive" for field in fields), (what, answer.text)
        assert fields
    assert traces(tenant) == before
