"""The OpenAPI document: what clients are made from."""

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI

from api.route import adapter, dataset


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    app = FastAPI()
    for room in (adapter, dataset):
        app.include_router(room.router)
    return app.openapi()


def test_every_reference_points_into_the_document(document: dict[str, Any]) -> None:
    for reference in references(document):
        found: Any = document
        for name in reference.removeprefix("#/").split("/"):
            assert name in found, reference
            found = found[name]


def references(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from references(item)
    elif isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for item in value.values():
            yield from references(item)


def test_a_picture_is_put_as_a_body(document: dict[str, Any]) -> None:
    put = document["paths"]["/api/datasets/{dataset_id}/uploads/{position}"]["put"]
    assert put["requestBody"]["required"] is True


@pytest.mark.parametrize("path", ["/api/datasets", "/api/adapters"])
def test_a_form_takes_no_strange_fields(document: dict[str, Any], path: str) -> None:
    form = document["paths"][path]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert form["additionalProperties"] is False
