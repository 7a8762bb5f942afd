"""One key: one job, however often and from how many sides it comes; another body is refused."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.api_bench import Tenancy
from tests.integration.api.test_dataset import PNG
from tests.integration.api.test_model_update import POLICY, choose

KEY = {"Idempotency-Key": "once"}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def generation(_: Tenancy, word: str) -> tuple[str, dict[str, Any]]:
    return "/api/generate", {"prompt": word}


def training(tenant: Tenancy, word: str) -> tuple[str, dict[str, Any]]:
    [dataset] = tenant.get("/api/datasets").json()["items"]
    return "/api/fine-tune", {"dataset_id": dataset["id"], "name": "s", "rank": 4, "description": word}


def registration(_: Tenancy, word: str) -> tuple[str, dict[str, Any]]:
    return "/api/models", {"name": "mine", "source": "owner/name", "revision": COMMIT, "description": word}


def update(tenant: Tenancy, word: str) -> tuple[str, dict[str, Any]]:
    [model] = tenant.get("/api/models").json()["items"]
    if word == "a star":
        assert tenant.call("PUT", f"/api/models/{model['id']}/policy", json=POLICY | {"enabled": False}).is_success
        choose(tenant)
    return "/api/model-updates", {"model": model["id" if word == "a star" else "name"]}


@pytest.mark.usefixtures("model_id")
@pytest.mark.parametrize("request_of", [generation, training, registration, update])
def test_a_key_that_comes_from_everywhere_at_once_makes_one_job(
    tenant: Tenancy, request_of: Callable[[Tenancy, str], tuple[str, dict[str, Any]]]
) -> None:
    tenant.post("/api/datasets", data={"name": "d"}, files={"images": ("a.png", PNG)})
    words = {word: request_of(tenant, word) for word in ("a star", "a heart")}
    before = len(tenant.get("/api/jobs?limit=100").json()["items"])

    def send(number: int) -> tuple[str, int, str]:
        word = "a heart" if number % 4 == 3 else "a star"
        path, body = words[word]
        answer = tenant.post(path, json=body, headers=KEY)
        return word, answer.status_code, answer.json().get("id") or answer.json()["code"]

    with ThreadPoolExecutor(100) as pool:
        answers = Counter(pool.map(send, range(1000)))
    accepted = {(word, found) for word, status, found in answers if status == 202}
    assert len(accepted) == 1
    [(winner, _)] = accepted
    assert {(word, status, found) for word, status, found in answers if word != winner} == {
        (word, 422, "idempotency_key_reuse") for word in words if word != winner
    }
    assert {status for word, status, _ in answers if word == winner} == {202}
    assert len(tenant.get("/api/jobs?limit=100").json()["items"]) == before + 1
