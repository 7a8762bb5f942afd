"""Numbers that are none, in every numeric field of every body and query: a problem that names it, and no trace."""

import math
from collections.abc import Iterator

import pytest

from tests.api_bench import Tenancy, encode, lora
from tests.body_bench import ID, PLACES, Schema, dotted, named, refusal, traces

NUMBERS = {
    name: [(path, schema) for path, schema in place.fields if schema.get("type") in ("integer", "number")]
    for name, place in PLACES.items()
}


def bad(schema: Schema) -> Iterator[str]:
    """What no such number may be, as JSON."""
    yield from ('"7"', "true", "1e309", "-1e309", "[]", "{}", '""', '"\\u0000"', "9" * 400)
    if schema["type"] == "integer":
        yield from ("1.5", "1e3", str(2**63), str(-(2**63) - 1))
    if schema.get("minimum", schema.get("exclusiveMinimum", -math.inf)) >= 0:
        yield "-1"
    if "exclusiveMinimum" in schema:
        yield str(schema["exclusiveMinimum"])
    assert {"maximum", "exclusiveMaximum"} & schema.keys(), "every number has an end"
    yield from (str(2**63), "1e300")


def test_the_numbers_are_found() -> None:
    paths = {name: {dotted(path) for path, _ in found} for name, found in NUMBERS.items()}
    assert {"seed", "guidance_scale", "adapters.0.weight", "strength"} <= paths["generation"]
    assert {"rank", "augment.flip", "sample_every"} <= paths["training"]
    assert {"defaults.width", "defaults.strength"} <= paths["base model"]
    assert paths["rating"] == {"rating"}
    assert {"cooldown_hours", "rollout.max_days", "recipe.beta", "gates.confidence"} <= paths["policy"]


@pytest.mark.parametrize("name", [name for name in PLACES if NUMBERS[name]])
def test_a_number_that_is_none_is_named_and_leaves_no_trace(tenant: Tenancy, name: str) -> None:
    place, before = PLACES[name], traces(tenant)
    for path, schema in NUMBERS[name]:
        for value in bad(schema):
            answer = place.send(tenant, place.with_value(path, value))
            assert refusal(answer) == named(dotted(path)), (path, value, answer.text)
        for constant in ("NaN", "Infinity", "-Infinity"):
            answer = place.send(tenant, place.with_value(path, constant))
            assert refusal(answer) == named("body"), (path, constant, answer.text)
    assert traces(tenant) == before


WORDS = ("NaN", "inf", "1e309", "-1", str(2**63), "7.5", "true", "", "\0", "9" * 5000)


def test_numbers_in_a_query(tenant: Tenancy) -> None:
    document, asked = tenant.get("/openapi.json").json(), 0
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for parameter in operation.get("parameters", ()):
                schema = parameter["schema"]
                types = {each.get("type") for each in (schema, *schema.get("anyOf", ()))}
                if "integer" not in types or parameter["in"] != "query" or parameter["name"] == "expires":
                    continue  # whether a signature has expired is asked where there is one
                asked += 1
                url = path.replace("{user_ref}", "a").replace("{form}", "kohya")
                for name in ("job", "update", "image", "adapter", "feedback"):
                    url = url.replace(f"{{{name}_id}}", ID)
                for word in WORDS:
                    answer = tenant.call(method.upper(), url, params={parameter["name"]: word})
                    assert refusal(answer) == named(parameter["name"]), (path, word, answer.text)
    assert asked > 10


@pytest.mark.parametrize("word", [*WORDS, "5000"])
def test_numbers_in_a_path(hidden: Tenancy, word: str) -> None:
    body = {"name": "d", "images": [{"file_name": "a.png"}]}
    [upload] = hidden.post("/api/datasets", json=body).json()["uploads"]
    url = upload["url"].replace("/uploads/0", f"/uploads/{word}")
    assert hidden.http.put(url.replace("\0", "%00"), content=b"x").status_code in (401, 404, 405, 307)
    assert [key for key, _ in hidden.runtime.store.list("")] == []


@pytest.mark.usefixtures("model_id")
def test_numbers_in_a_form(tenant: Tenancy) -> None:
    before = traces(tenant)
    for word in ("NaN", "inf", "-inf", "1e309", "-1", "0", str(2**63), "true", "1,5", "\0"):
        answer = tenant.post("/api/adapters", data={"name": "s", "alpha": word}, files={"file": encode(lora())})
        assert refusal(answer) == named("alpha"), (word, answer.text)
    assert traces(tenant) == before
