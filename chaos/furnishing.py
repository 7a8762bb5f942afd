"""What lets hostile requests get past the door: something of each kind, and a configuration that knows the ids of all.

Schemathesis draws an id from its dictionary most of the time, and makes one up at other times.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2 as httpx

from chaos.lesson import draw_circles, make_lesson
from chaos.patience import came
from chaos.plant import Plant
from cli.client import Client

_PATIENCE_SECONDS = 120.0
_NOBODY = "http://127.0.0.1:9/"
_SHAPES = ("star", "circle", "square", "ring", "cross", "heart", "moon", "leaf")
_POLICY: dict[str, Any] = {
    "min_new_labels": 1,
    "many_new_labels": 1,
    "min_users": 1,
    "min_likes": 1,
    "cooldown_hours": 0,
    "recipe": {"rank": 1, "steps": 1, "batch_size": 1, "gradient_accumulation": 1},
    "selection": {"max_user_share": 1, "held_out_share": 0.3},
    "gates": {
        "min_held_out": 1,
        "min_accuracy_lower_bound": 0,
        "max_accuracy_fall": 1,
        "min_win_share": 0,
        "max_fidelity_fall": 1,
        "max_drift": 1e6,
        "max_diversity_fall": 1,
    },
    "rollout": {"canary_share": 0.5},
}
"""Whatever an update made waits for somebody to approve it."""

_SPARES = 3

_NEWEST = "ORDER BY created_at DESC LIMIT 30"
_IDS = {
    "job_id": f"SELECT id FROM job {_NEWEST}",
    "ended_job_id": f"SELECT id FROM job WHERE completed_at IS NOT NULL {_NEWEST}",
    "told_job_id": f"SELECT job_id FROM webhook_delivery {_NEWEST}",
    "delivery_id": f"SELECT id FROM webhook_delivery {_NEWEST}",
    "image_id": f"SELECT id FROM artifact WHERE type = 'image' {_NEWEST}",
    "dataset_id": f"SELECT id FROM dataset {_NEWEST}",
    "adapter_id": f"SELECT id FROM adapter {_NEWEST}",
    "model_id": f"SELECT id FROM stable_diffusion WHERE status = 'ready' {_NEWEST}",
    "feedback_id": f"SELECT id FROM user_feedback {_NEWEST}",
    "update_id": f"SELECT id FROM model_update {_NEWEST}",
    "waiting_update_id": "SELECT id FROM model_update WHERE status = 'awaiting_approval'",
    "ended_update_id": "SELECT id FROM model_update WHERE completed_at IS NOT NULL UNION SELECT gen_random_uuid()",
}

_OFTEN, _MOSTLY = 0.7, 0.9
_PLACES = {
    **{f"path.{name}": name for name in _IDS},
    "path.artifact_id": "image_id",
    "query.model_id": "model_id",
    "body.image_id": "image_id",
    "body.chosen": "image_id",
    "body.rejected": "image_id",
    "body.init_image": "image_id",
    "body.dataset_id": "dataset_id",
    "body.source": "source",
}
_OWN = {
    "POST /api/jobs/{job_id}/webhooks/{delivery_id}/replay": (_MOSTLY, {"path.job_id": "told_job_id"}),
    "PUT /api/datasets/{dataset_id}/uploads/{position}": (
        _MOSTLY,
        {
            "path.dataset_id": "open_dataset_id",
            "path.position": "position",
            "query.expires": "expires",
            "query.signature": "signature",
        },
    ),
    "POST /api/adapters": (_MOSTLY, {"body.name": "name"}),
    "DELETE /api/adapters/{adapter_id}": (_MOSTLY, {"path.adapter_id": "spare_id"}),
    "POST /api/jobs/{job_id}/cancel": (_OFTEN, {"path.job_id": "ended_job_id"}),
    "POST /api/model-updates/{update_id}/cancel": (_OFTEN, {"path.update_id": "ended_update_id"}),
    "POST /api/model-updates/{update_id}/approve": (_MOSTLY, {"path.update_id": "waiting_update_id"}),
    "POST /api/model-updates/{update_id}/reject": (_OFTEN, {"path.update_id": "waiting_update_id"}),
}
"""What fits only with what is beside it; and an update is left in peace until it waits for somebody."""


def begin(plant: Plant) -> None:
    """What takes a moment: a picture whose webhook was told, an adapter, and files to send."""
    with closing(Client(plant.apis[0], plant.key)) as client:
        shapes = [{"prompt": f"a {shape}", "steps": 2, "webhook": _NOBODY} for shape in _SHAPES]
        for job in [client.generate(shape) for shape in shapes]:
            client.finish(job)
        client.finish(client.fine_tune(make_lesson(client, steps=10)))
        [adapter, *_] = client.adapters()
        samples = plant.data / "sample"
        samples.mkdir(exist_ok=True)
        (samples / "picture").write_bytes(draw_circles(1)[0].content)
        (samples / "adapter").write_bytes(client.download(adapter["urls"]["diffusers"]))
    came(lambda: _ids(plant, _IDS["delivery_id"]), within=_PATIENCE_SECONDS)


def furnish(plant: Plant, *, number: int) -> Path:
    """What may have gone since, once more, and nobody before it in line; the configuration of a round.

    In every second one no update is in flight, and somebody may start one. In the others a single opinion starts one;
    all but the first wait until there is one to approve.
    """
    starts_updates = number % 2 == 0
    with closing(Client(plant.apis[0], plant.key)) as client:
        for job_id in _ids(plant, "SELECT id FROM job WHERE completed_at IS NULL AND kind <> 'model_update'"):
            client.cancel(job_id)
        [model_id] = _ids(plant, _IDS["model_id"])
        client.set_policy(model_id, _POLICY | {"enabled": starts_updates})
        if not starts_updates:
            for update_id in _ids(plant, "SELECT id FROM model_update WHERE completed_at IS NULL"):
                client.cancel_update(update_id)
        for user, image_id in enumerate(_ids(plant, _IDS["image_id"])):
            client.say({"kind": "thumb", "image_id": image_id, "liked": user % 2 == 0, "user_ref": f"user-{user}"})
        if starts_updates and number > 0:
            came(lambda: _ids(plant, _IDS["waiting_update_id"]), within=_PATIENCE_SECONDS)
        client.fine_tune(make_lesson(client, steps=10))
    known: dict[str, Sequence[str | int]] = {name: _ids(plant, query) for name, query in _IDS.items()}
    known |= _open_upload(plant) | {"source": [f"s3://{plant.direct.s3_bucket}/models/none"], "name": ["circles"]}
    known |= {"spare_id": [_import_spare(plant) for _ in range(_SPARES)]}
    path = plant.data / "schemathesis.toml"
    path.write_text("\n".join(_configuration(known)))
    return path


def _ids(plant: Plant, query: str) -> list[str]:
    with plant.connect() as connection:
        return [str(found) for (found,) in connection.execute(query)]


def _import_spare(plant: Plant) -> str:
    """An adapter that no picture was made with, so that it may be deleted."""
    with (plant.data / "sample/adapter").open("rb") as weights:
        form: dict[str, Any] = {"data": {"name": "spare"}, "files": {"file": ("spare.safetensors", weights)}}
        answer = httpx.post(f"{plant.apis[0]}/api/adapters", **form, headers=_headers(plant), trust_env=False)
    return str(answer.raise_for_status().json()["id"])


def _open_upload(plant: Plant) -> dict[str, Sequence[str | int]]:
    """The parts of a signed URL that a picture can be put to."""
    spec = {"name": "open", "images": [{"file_name": "0.png", "caption": "a circle"}]}
    dataset = httpx.post(f"{plant.apis[0]}/api/datasets", json=spec, headers=_headers(plant), trust_env=False).json()
    query = parse_qs(urlsplit(dataset["uploads"][0]["url"]).query)
    return {
        "open_dataset_id": [dataset["id"]],
        "position": [0],
        "expires": [int(query["expires"][0])],
        "signature": query["signature"],
    }


def _headers(plant: Plant) -> dict[str, str]:
    return {"Authorization": f"Bearer {plant.key}"}


def _configuration(known: Mapping[str, Sequence[str | int]]) -> Iterator[str]:
    """TOML for schemathesis, which has a list of values in common with JSON."""
    for name, values in known.items():
        if values:
            yield f"[dictionaries.{name}]\nvalues = {json.dumps(values)}"
    yield "[parameters]"
    yield from _bind(_PLACES, known, probability=_OFTEN)
    for operation, (probability, places) in _OWN.items():
        yield f"[[operations]]\ninclude-name = {json.dumps(operation)}\n[operations.parameters]"
        yield from _bind(places, known, probability=probability)


def _bind(places: Mapping[str, str], known: Mapping[str, Sequence[str | int]], *, probability: float) -> Iterator[str]:
    for place, name in places.items():
        if known[name]:
            yield f"{json.dumps(place)} = {{ dictionary = {json.dumps(name)}, probability = {probability} }}"
