"""Every JSON body that the API takes, and every field of it, by the specifications themselves."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

from pydantic import TypeAdapter

from core.domain.base_model import BaseModelSpec
from core.domain.dataset import DatasetSpec
from core.domain.feedback import ChoiceSpec, CommentSpec, RatingSpec, ThumbSpec
from core.domain.generation import GenerationSpec
from core.domain.model_update import UpdateRequest
from core.domain.policy import UpdatePolicy
from core.domain.rollout import MoveSpec
from core.domain.training import TrainingSpec
from tests.api_bench import Tenancy

Schema = Mapping[str, Any]
Path = tuple[str | int, ...]
ID = str(uuid4())


@dataclass(frozen=True)
class Place:
    """A route with what it takes, and a body whose form is right."""

    method: str
    path: str
    spec: Any
    body: Mapping[str, Any] = field(default_factory=dict)

    def send(self, tenant: Tenancy, text: str | bytes) -> Any:
        """The answer to a body, JSON or not."""
        content = text if isinstance(text, bytes) else text.encode()
        return tenant.call(self.method, self.path, content=content, headers={"Content-Type": "application/json"})

    def with_value(self, path: Path, value: str) -> str:
        """The body with a value, itself as JSON, at a path."""
        return json.dumps(_put(self.body, path, "VALUE")).replace('"VALUE"', value)

    @property
    def fields(self) -> Iterator[tuple[Path, Schema]]:
        """Every field that is no object or list: its path, 0 for the items of a list, and its schema."""
        for path, schema in self._nodes:
            if not {"properties", "items", "anyOf", "oneOf"} & schema.keys():
                yield path, schema

    @property
    def objects(self) -> Iterator[Path]:
        """The path of every object, the whole body's among them."""
        return (path for path, schema in self._nodes if "properties" in schema)

    @property
    def _nodes(self) -> Iterator[tuple[Path, Schema]]:
        schema = TypeAdapter(self.spec).json_schema()
        return _walk(schema, schema.get("$defs", {}), ())


def _said(kind: str, **said: Any) -> dict[str, Any]:
    return {"kind": kind, "user_ref": "a", **said}


PLACES = {
    "generation": Place(
        "POST",
        "/api/generate",
        GenerationSpec,
        {"prompt": "a star", "adapters": [{"ref": "style"}], "init_image": ID},
    ),
    "training": Place("POST", "/api/fine-tune", TrainingSpec, {"dataset_id": ID, "name": "s"}),
    "base model": Place("POST", "/api/models", BaseModelSpec, {"name": "m", "source": "a/b"}),
    "dataset": Place("POST", "/api/datasets", DatasetSpec, {"name": "d", "images": [{"file_name": "a.png"}]}),
    "policy": Place("PUT", f"/api/models/{ID}/policy", UpdatePolicy),
    "update": Place("POST", "/api/model-updates", UpdateRequest),
    "approval": Place("POST", f"/api/model-updates/{ID}/approve", MoveSpec),
    "rejection": Place("POST", f"/api/model-updates/{ID}/reject", MoveSpec),
    "cancellation": Place("POST", f"/api/model-updates/{ID}/cancel", MoveSpec),
    "promotion": Place("POST", f"/api/adapters/{ID}/promote", MoveSpec),
    "rollback": Place("POST", f"/api/adapters/{ID}/rollback", MoveSpec),
    "thumb": Place("POST", "/api/feedback", ThumbSpec, _said("thumb", image_id=ID, liked=True)),
    "rating": Place("POST", "/api/feedback", RatingSpec, _said("rating", image_id=ID, rating=3)),
    "choice": Place("POST", "/api/feedback", ChoiceSpec, _said("choice", chosen=ID, rejected=str(UUID(int=1)))),
    "comment": Place("POST", "/api/feedback", CommentSpec, _said("comment", image_id=ID, comment="nice")),
}


def _walk(schema: Schema, definitions: Mapping[str, Schema], path: Path) -> Iterator[tuple[Path, Schema]]:
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    yield path, schema
    for each in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        if each.get("type") != "null":
            yield from _walk(each, definitions, path)
    for name, each in schema.get("properties", {}).items():
        yield from _walk(each, definitions, (*path, name))
    if isinstance(schema.get("items"), dict):
        yield from _walk(schema["items"], definitions, (*path, 0))


def _put(body: Any, path: Path, value: Any) -> Any:
    if not path:
        return value
    first, *rest = path
    if isinstance(first, int):
        return [_put((body or [None])[0], tuple(rest), value)]
    return {**(body or {}), first: _put((body or {}).get(first), tuple(rest), value)}


def traces(tenant: Tenancy) -> dict[str, Any]:
    """All that a request could have left: rows of a tenant, and every object of the store."""
    lists = ("jobs", "datasets", "adapters", "feedback", "models", "model-updates")
    rows = {name: [each["id"] for each in tenant.get(f"/api/{name}?limit=100").json()["items"]] for name in lists}
    return rows | {"objects": [key for key, _ in tenant.runtime.store.list("")]}


def refusal(answer: Any) -> tuple[int, str, set[str]]:
    """Status, content type and the fields that are named."""
    fields = {error["field"] for error in answer.json().get("errors", ())}
    return answer.status_code, answer.headers["content-type"], fields


def named(*fields: str) -> tuple[int, str, set[str]]:
    """The refusal of a request for those fields."""
    return 422, "application/problem+json", set(fields)


def dotted(path: Path) -> str:
    """A path as a problem names it."""
    return ".".join(map(str, path))
