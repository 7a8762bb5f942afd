"""POST /api/generate against the real servers, up to the job's row."""

import base64
import io
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from PIL import Image

from core.domain.base_model import ModelFamily
from tests.api_bench import DEFAULTS, MODULES, Tenancy, encode, lora

pytestmark = pytest.mark.usefixtures("model_id")


def fields(answer: Any) -> set[str]:
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return {error["field"] for error in answer.json()["errors"]}


def picture(form: str = "PNG") -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), "red").save(buffer, form)
    return f"data:image/{form.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def import_adapter(tenant: Tenancy, name: str = "style", **fields: str) -> dict[str, Any]:
    answer = tenant.post("/api/adapters", data={"name": name} | fields, files={"file": encode(lora())})
    assert answer.status_code == 201, answer.text
    adapter: dict[str, Any] = answer.json()
    return adapter


def test_a_request_becomes_a_job_with_a_complete_plan(tenant: Tenancy) -> None:
    answer = tenant.generate("a red star", seed=7, num_images=2)
    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["Location"] == job["urls"]["self"]
    assert (job["kind"], job["status"], job["queue_position"]) == ("generation", "queued", 0)
    assert tenant.claim().plan == {
        "prompt": "a red star",
        "negative_prompt": "",
        "model": "lorikeet-tiny",
        "width": 64,
        "height": 64,
        "steps": 20,
        "guidance_scale": 3.0,
        "seed": 7,
        "num_images": 2,
        "scheduler": "ddim",
        "adapters": [],
        "init_image_key": None,
        "strength": None,
        "output_format": "png",
        "assignment": None,
    }


def test_a_seed_is_drawn_and_recorded_where_none_is_given(tenant: Tenancy) -> None:
    tenant.generate()
    tenant.generate()
    assert tenant.claim().plan["seed"] != tenant.claim().plan["seed"]


@pytest.mark.parametrize(
    ("request_fields", "wrong"),
    [
        ({"steps": 0, "width": 65, "num_images": "2", "nope": 1}, {"steps", "width", "num_images", "nope"}),
        ({"steps": 1e9, "height": 0, "seed": -1}, {"steps", "height", "seed"}),
        ({"seed": 2**53}, {"seed"}),
        ({"steps": True, "width": 64.5}, {"steps", "width"}),
        ({"prompt": None}, {"prompt"}),
        ({"prompt": "a\x00b", "negative_prompt": "x" * 10_001}, {"prompt", "negative_prompt"}),
        (
            {"guidance_scale": 51, "scheduler": "magic", "output_format": "gif"},
            {"guidance_scale", "scheduler", "output_format"},
        ),
        ({"adapters": [{"weight": 5}, {"ref": "a", "x": 1}]}, {"adapters.0.ref", "adapters.0.weight", "adapters.1.x"}),
        ({"adapters": [{"ref": "a"}] * 9}, {"adapters"}),
        ({"strength": 0.5}, {"body"}),
        ({"model": "../x"}, {"model"}),
        ({"width": 8192, "height": 8192}, {"width"}),
        ({"model": "none", "adapters": [{"ref": "x"}, {"ref": "!"}]}, {"model", "adapters.0.ref", "adapters.1.ref"}),
        ({"init_image": "nonsense", "model": "none"}, {"init_image", "model"}),
        ({"init_image": "data:image/png;base64,AA%A"}, {"init_image"}),
        ({"init_image": "data:image/svg+xml;base64,PHN2Zz4="}, {"init_image"}),
        ({"init_image": "data:text/html,x"}, {"init_image"}),
        ({"init_image": "6f1f7c3e-0000-4000-8000-000000000000"}, {"init_image"}),
    ],
)
def test_every_wrong_field_is_named_in_one_answer(
    tenant: Tenancy, request_fields: dict[str, Any], wrong: set[str]
) -> None:
    assert fields(tenant.generate(**request_fields)) == wrong
    assert tenant.get("/api/jobs?kind=generation").json()["items"] == []


def test_numbers_beyond_floats_are_refused(tenant: Tenancy) -> None:
    headers = {"Content-Type": "application/json"}
    body = b'{"prompt": "a", "guidance_scale": 1e309, "steps": 9223372036854775808}'
    assert fields(tenant.post("/api/generate", content=body, headers=headers)) == {"guidance_scale", "steps"}


def test_a_lone_surrogate_is_refused(tenant: Tenancy) -> None:
    headers = {"Content-Type": "application/json"}
    for body in (b'{"prompt": "\\ud800"}', b'{"prompt": "a", "\\ud800": 1}', b'{"prompt": "a", "model": "\\udfff"}'):
        assert tenant.post("/api/generate", content=body, headers=headers).status_code == 422


def test_a_picture_sent_along_is_checked_and_stored(tenant: Tenancy) -> None:
    answer = tenant.generate(init_image=picture("JPEG"), strength=0.5)
    assert answer.status_code == 202, answer.text
    plan = tenant.claim().plan
    assert plan["strength"] == 0.5
    with Image.open(io.BytesIO(tenant.runtime.store.get(plan["init_image_key"]))) as stored:
        assert (stored.format, stored.size) == ("PNG", (64, 48))


def test_an_earlier_image_is_begun_with_but_only_ones_own(tenant: Tenancy, stranger: Tenancy) -> None:
    image_id = tenant.draw()
    assert tenant.generate(init_image=image_id).status_code == 202
    plan = tenant.claim().plan
    assert plan["strength"] == 0.75, "the model's default"
    assert plan["init_image_key"].startswith("job/")
    assert fields(stranger.generate(init_image=image_id)) == {"init_image"}


def test_adapters_are_pinned(tenant: Tenancy, stranger: Tenancy) -> None:
    first = import_adapter(tenant)
    import_adapter(tenant)
    for ref, version in (("style", 2), ("style@latest", 2), ("style@1", 1), (f"sha256:{first['sha256']}", 2)):
        assert tenant.generate(adapters=[{"ref": ref, "weight": 0.5}]).status_code == 202
        pinned = tenant.claim().plan["adapters"][0]
        assert (pinned["version"], pinned["weight"], pinned["text_encoder_weight"]) == (version, 0.5, 0.5)
        assert pinned["sha256"] == first["sha256"]
    assert fields(stranger.generate(adapters=[{"ref": "style"}])) == {"adapters.0.ref"}
    assert fields(tenant.generate(adapters=[{"ref": "style@3"}, {"ref": "style@champion"}])) == {
        "adapters.0.ref",
        "adapters.1.ref",
    }
    assert fields(tenant.generate(adapters=[{"ref": "style"}, {"ref": "style@2"}])) == {"adapters.1.ref"}


def test_an_adapter_of_another_family_or_size_does_not_fit(tenant: Tenancy) -> None:
    import_adapter(tenant)
    tenant.register_model("twin")
    tenant.register_model("xl", family=ModelFamily.SDXL)
    tenant.register_model("wide", modules=MODULES | {"unet.conv_in": (64, 4, 3, 3)})
    assert tenant.generate(model="twin", adapters=[{"ref": "style"}]).status_code == 202
    for model, reason in (("xl", "was made for sd1"), ("wide", "other sizes")):
        answer = tenant.generate(model=model, adapters=[{"ref": "style"}])
        assert fields(answer) == {"adapters.0.ref"}
        assert reason in answer.text


def test_what_a_family_cannot_do_is_told_at_once(tenant: Tenancy) -> None:
    for family in (ModelFamily.SD3, ModelFamily.FLUX, ModelFamily.OTHER):
        tenant.register_model(family.value, family=family)
    default = DEFAULTS.scheduler
    sizes = {"width": 72, "height": 64}
    image = {"init_image": tenant.draw()}
    fine: dict[str, list[dict[str, Any]]] = {
        "sd3": [{"scheduler": "heun", "negative_prompt": "green"} | image, {"scheduler": "euler"}],
        "flux": [{"scheduler": "euler"} | image, {"scheduler": "euler_karras"}],
        "other": [{"scheduler": default}, {"negative_prompt": "green"}, sizes],
    }
    wrong: dict[str, list[tuple[dict[str, Any], set[str]]]] = {
        "sd3": [({"scheduler": "ddim"}, {"scheduler"}), ({"scheduler": "euler"} | sizes, {"width"})],
        "flux": [
            ({"scheduler": "heun", "negative_prompt": "green"}, {"scheduler", "negative_prompt"}),
            ({"scheduler": "euler", "height": 88}, {"height"}),
        ],
        "other": [({"scheduler": "tcd"}, {"scheduler"}), (image, {"init_image"})],
    }
    for name in fine:
        for request in fine[name]:
            assert tenant.generate(model=name, **request).status_code == 202, (name, request)
        for request, named in wrong[name]:
            assert fields(tenant.generate(model=name, **request)) == named, (name, request)


def test_a_model_that_is_not_ready_is_a_conflict(tenant: Tenancy) -> None:
    folder = tenant.runtime.settings.model_dir / "new"
    tenant.post("/api/models", json={"name": "new", "source": str(folder.resolve())})
    answer = tenant.generate(model="new")
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")


def test_another_tenants_own_model_does_not_exist(tenant: Tenancy, stranger: Tenancy) -> None:
    tenant.register_model("mine", shared=False)
    assert tenant.generate(model="mine").status_code == 202
    assert fields(stranger.generate(model="mine")) == {"model"}
    stranger.register_model("mine", shared=False)
    assert stranger.generate(model="mine").status_code == 202


def test_equal_requests_with_one_key_make_one_job(tenant: Tenancy) -> None:
    headers = {"Idempotency-Key": "once"}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: tenant.generate("a star", headers=headers), range(24)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    other = tenant.generate("a heart", headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reuse")


def test_one_key_of_two_tenants_is_two_keys(tenant: Tenancy, stranger: Tenancy) -> None:
    headers = {"Idempotency-Key": "once"}
    assert tenant.generate(headers=headers).json()["id"] != stranger.generate(headers=headers).json()["id"]


def test_a_deadline_and_strange_headers(tenant: Tenancy) -> None:
    assert tenant.generate(headers={"Cancel-After": "30s"}).status_code == 202
    assert fields(tenant.generate(headers={"Cancel-After": "soon"})) == {"Cancel-After"}
    assert fields(tenant.generate(headers={"Idempotency-Key": "a b"})) == {"Idempotency-Key"}


def test_too_much_waiting_work_is_refused_with_a_time_to_come_back(tenant: Tenancy) -> None:
    answers = [tenant.generate(width=2048, height=2048, steps=200, num_images=16) for _ in range(3)]
    refused = answers[-1]
    assert (refused.status_code, refused.json()["code"]) == (429, "queue_full")
    assert int(refused.headers["Retry-After"]) >= 1
