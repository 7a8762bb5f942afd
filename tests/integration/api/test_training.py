"""POST /api/fine-tune against the real servers, up to the job's row; the metrics of a training."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest

from core.domain.base_model import ModelFamily
from core.domain.job import JobKind
from core.domain.training import TrainingMetric
from core.services import training
from tests.api_bench import Tenancy
from tests.integration.api.test_dataset import open_dataset, upload

pytestmark = pytest.mark.usefixtures("model_id")


def fields(answer: Any) -> set[str]:
    assert answer.status_code == 422, answer.text
    return {error["field"] for error in answer.json()["errors"]}


@pytest.fixture
def dataset(tenant: Tenancy) -> dict[str, Any]:
    created: dict[str, Any] = upload(tenant, "a red one", "a blue one").json()
    return created


def fine_tune(tenant: Tenancy, dataset_id: str, /, **changes: Any) -> Any:
    return tenant.post("/api/fine-tune", json={"dataset_id": dataset_id, "name": "style", "rank": 4} | changes)


def test_a_request_becomes_a_job_with_a_complete_plan(tenant: Tenancy, dataset: dict[str, Any]) -> None:
    answer = fine_tune(tenant, dataset["id"], augment={"flip": 0.5}, steps=50)
    assert answer.status_code == 202, answer.text
    assert answer.json()["kind"] == "training"
    claim = tenant.claim(JobKind.TRAINING)
    plan = claim.plan
    assert (plan["alpha"], plan["resolution"], plan["adapter_version"]) == (4.0, 64, 1)
    assert plan["dataset_digest"] == dataset["digest"]
    assert plan["spec"]["augment"] == {"flip": 0.5, "crop": 0.0, "color": 0.0}
    assert str(claim.dataset_id) == dataset["id"]


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"rank": 0, "steps": 0, "nope": 1}, {"rank", "steps", "nope"}),
        ({"augment": {"flip": 2, "turn": 1}}, {"augment.flip", "augment.turn"}),
        ({"resolution": 65}, {"resolution"}),
        ({"learning_rate": "1e-4"}, {"learning_rate"}),
        ({"rank": 33}, {"rank"}),
        ({"target_modules": ["to_q", "to_magic"]}, {"target_modules.1"}),
        ({"target_modules": []}, {"target_modules"}),
        ({"base_model": "none"}, {"base_model"}),
        ({"dataset_id": "x"}, {"dataset_id"}),
        ({"dataset_id": str(uuid4()), "base_model": "none"}, {"dataset_id", "base_model"}),
        ({"steps": 5, "warmup_steps": 5}, {"body"}),
        ({"sample_prompts": ["a\x00"]}, {"sample_prompts.0"}),
    ],
)
def test_every_wrong_field_is_named_in_one_answer(
    tenant: Tenancy, dataset: dict[str, Any], changes: dict[str, Any], wrong: set[str]
) -> None:
    assert fields(fine_tune(tenant, dataset["id"], **changes)) == wrong


@pytest.mark.parametrize("family", [ModelFamily.SD3, ModelFamily.FLUX, ModelFamily.OTHER])
def test_other_families_are_not_trained(tenant: Tenancy, dataset: dict[str, Any], family: ModelFamily) -> None:
    tenant.register_model("new", family=family)
    answer = fine_tune(tenant, dataset["id"], base_model="new")
    assert fields(answer) == {"base_model"}
    assert f"of the family {family}; only sd1, sd2, sdxl can be trained" in answer.text


def test_an_open_dataset_is_a_conflict(tenant: Tenancy) -> None:
    answer = fine_tune(tenant, open_dataset(tenant)["id"])
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")


def test_trainings_at_once_get_versions_of_their_own(tenant: Tenancy, dataset: dict[str, Any]) -> None:
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: fine_tune(tenant, dataset["id"]), range(6)))
    assert {answer.status_code for answer in answers} == {202}
    versions = [tenant.claim(JobKind.TRAINING).plan["adapter_version"] for _ in range(6)]
    assert sorted(versions) == [1, 2, 3, 4, 5, 6]


def test_the_loss_of_each_step_is_served_in_pages(tenant: Tenancy, dataset: dict[str, Any]) -> None:
    job = fine_tune(tenant, dataset["id"]).json()
    claim = tenant.claim(JobKind.TRAINING)
    metrics = [TrainingMetric(step=n, loss=1 / n, learning_rate=1e-4, gradient_norm=0.5) for n in range(1, 6)]
    with tenant.runtime.database.transaction() as session:
        training.record_metrics(session, claim, metrics)
    url = f"{job['urls']['self']}/metrics"
    first = tenant.get(f"{url}?limit=3").json()
    assert [(each["step"], each["loss"]) for each in first["items"]] == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    rest = tenant.get(f"{url}?limit=3&after_step={first['next_after_step']}").json()
    assert ([each["step"] for each in rest["items"]], rest["next_after_step"]) == ([4, 5], None)
    generation = tenant.generate().json()
    assert tenant.get(f"{generation['urls']['self']}/metrics").status_code == 404
