"""Text that is none, bodies that are none, in every field of every body: a problem that names it, and no trace."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.api_bench import Tenancy
from tests.body_bench import PLACES, Schema, dotted, named, refusal, traces

TEXTS = {
    name: [(path, schema) for path, schema in place.fields if schema.get("type") == "string" or "enum" in schema]
    for name, place in PLACES.items()
}
SWITCHES = {
    name: [path for path, schema in place.fields if schema.get("type") == "boolean" and "const" not in schema]
    for name, place in PLACES.items()
}
MEGABYTE = json.dumps("a" * 2**20)


def bad(schema: Schema) -> Iterator[str]:
    """What no such text may be, as JSON."""
    yield from ("7", "true", "[]", '{"a": "b"}', '["a"]')
    yield from ('"\\u0000"', '"a\\u0000b"', '"\\ud800"', '"\\udfff\\ud800"', MEGABYTE)
    if {"enum", "const", "pattern", "format"} & schema.keys():
        yield from ('""', '"../../etc/passwd"', '"%2e%2e%2f"', '"a b"', '"<script>"', '"\\u202e"', '"a\\nb"')
        yield json.dumps("a" * 50_000 + "!")  # a pattern that tries every way would take for ever
        yield json.dumps("a-" * 25_000 + "\n")


@pytest.mark.parametrize("name", [name for name in PLACES if TEXTS[name]])
def test_text_that_is_none_is_named_and_leaves_no_trace(tenant: Tenancy, name: str) -> None:
    place, before = PLACES[name], traces(tenant)
    for path, schema in TEXTS[name]:
        for value in bad(schema):
            status, content_type, fields = refusal(answer := place.send(tenant, place.with_value(path, value)))
            assert (status, content_type) == (422, "application/problem+json"), (path, value[:80], answer.text[:500])
            assert dotted(path) in fields, (path, value[:80], answer.text[:500])
    for path in SWITCHES[name]:
        for value in ("0", "1", '"true"', '"yes"', "null", "[]"):
            answer = place.send(tenant, place.with_value(path, value))
            assert refusal(answer) == named(dotted(path)), (path, value, answer.text)
    assert traces(tenant) == before


def test_the_texts_are_found() -> None:
    paths = {name: {dotted(path) for path, _ in found} for name, found in TEXTS.items()}
    assert {"prompt", "negative_prompt", "model", "scheduler", "adapters.0.ref", "init_image"} <= paths["generation"]
    assert {"dataset_id", "target_modules.0", "sample_prompts.0"} <= paths["training"]
    assert {"images.0.file_name", "images.0.caption"} <= paths["dataset"]
    assert {"kind", "tags.0", "feedback_token", "chosen", "rejected"} <= paths["choice"]
    assert ("options", "compile") in SWITCHES["base model"]


@pytest.mark.parametrize("name", PLACES)
def test_a_body_that_is_none_is_refused_everywhere(tenant: Tenancy, name: str) -> None:
    place, before = PLACES[name], traces(tenant)
    body = json.dumps(place.body)
    shapes: dict[str | bytes, set[str] | None] = {
        "{": {"body"},
        "[]": None,
        "5": None,
        '"a"': None,
        b"\xff\xfe": {"body"},
        b"\xef\xbb\xbf{}": {"body"},
        "[" * 10_000: {"body"},
        '{"a":' * 10_000: {"body"},
        '{"a": 1, "a": 1}': {"a"},
        '{"a": {"b": 1, "b": 1}}': {"b"},
        f"{body} {body}": {"body"},
        f"{body}\0": {"body"},
        '{"a": NaN}': {"body"},
        f'{{"a": {"9" * 5000}}}': {"body"},
    }
    for shape, fields in shapes.items():
        status, content_type, found = refusal(answer := place.send(tenant, shape))
        assert (status, content_type) == (422, "application/problem+json"), (shape[:40], answer.text[:300])
        assert found == fields if fields else found, (shape[:40], answer.text[:300])
    for content_type in ("text/plain", "application/xml", "application/x-www-form-urlencoded"):
        headers = {"Content-Type": content_type}
        answer = tenant.call(place.method, place.path, content=body.encode(), headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")
    assert traces(tenant) == before


@pytest.mark.parametrize("name", PLACES)
def test_unknown_fields_are_named_wherever_they_are(tenant: Tenancy, name: str) -> None:
    place, before = PLACES[name], traces(tenant)
    for path in place.objects:
        for stranger in ("stranger", "__proto__", "../x", "a" * 1000):
            answer = place.send(tenant, place.with_value((*path, stranger), "1"))
            status, _, fields = refusal(answer)
            assert (status, dotted((*path, stranger[:100])) in fields) == (422, True), (path, answer.text)
            assert len(answer.content) < 5000
    assert traces(tenant) == before


@pytest.mark.usefixtures("model_id")
@pytest.mark.parametrize(
    "prompt",
    [
        "(" * 10_000,
        "(a:" * 3333,
        "(" * 5000 + ")" * 5000,
        "[" * 5000 + "]" * 5000,
        "\\(" * 5000,
        "a " * 5000,
        "(a:1.1) " * 1250,
        "(a:" + "1" * 9990 + ")",
        "\u202e\u200b\u0300" * 3333,
        "🦜" * 10_000,
        "a\n\r\t\x1b[31m\x7f" * 500,
        "${jndi:ldap://x} {{7*7}} %s %n '; DROP TABLE job; --",
    ],
)
def test_a_prompt_that_is_strange_is_text_like_any_other(tenant: Tenancy, prompt: str) -> None:
    assert tenant.generate(prompt).status_code == 202
    assert tenant.claim().plan["prompt"] == prompt


HEADERS: dict[str, list[bytes]] = {
    "Idempotency-Key": [b"", b"a b", b"\xc3\xa4", b"x" * 256, b"\x7f"],
    "Cancel-After": [b"", b"soon", b"-1s", b"0s", b"1e309s", b"9" * 40 + b"d", b"1.5h", b"31d"],
}


@pytest.mark.usefixtures("model_id")
@pytest.mark.parametrize("name", HEADERS)
def test_headers_that_mean_nothing_are_named(tenant: Tenancy, name: str) -> None:
    before = traces(tenant)
    for value in HEADERS[name]:
        headers: Any = {name: value, "Authorization": tenant.headers["Authorization"].encode()}
        answer = tenant.http.post("/api/generate", json={"prompt": "a star"}, headers=headers)
        assert refusal(answer) == named(name), (value, answer.text)
    assert traces(tenant) == before


@pytest.mark.usefixtures("model_id")
def test_a_preference_that_makes_no_sense_is_none(tenant: Tenancy) -> None:
    for value in ("wait=-1", "wait=1e309", "wait", ";" * 5000, "wait " * 1000, ", wait=" + " " * 5000 + "x"):
        assert tenant.generate(headers={"Prefer": value}).status_code == 202


CURSORS = ["x", "%00", "..", "a" * 501, "9" * 400, "eyJhIjoxfQ==", "\ud7ff", "null"]


def test_a_cursor_that_is_none_of_ours(tenant: Tenancy) -> None:
    for place in ("jobs", "datasets", "adapters", "models", "feedback", "model-updates"):
        for cursor in CURSORS:
            answer = tenant.get(f"/api/{place}", params={"cursor": cursor})
            assert refusal(answer) == named("cursor"), (place, cursor, answer.text)
