"""Hundreds of words at once: each is kept or refused, and whoever repeats himself is one user with one word."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import select

from core.infra.settings import Settings
from core.infra.table import UserFeedback
from tests.api_bench import Tenancy, open_app
from tests.integration.api.test_api_key import key_of

PER_MINUTE = 240
NUMBER = 800
CALLERS = 32


@pytest.fixture
def limited(settings: Settings) -> Iterator[Tenancy]:
    """A tenant whose keys may send only so much."""
    with open_app(settings.model_copy(update={"max_requests_per_minute": PER_MINUTE})) as client:
        yield Tenancy(client, client.app.state.runtime, name="limited")  # type: ignore[attr-defined]


def flood(say: Callable[[int], Any], *, number: int = NUMBER) -> list[Any]:
    """The answers, in the order of what was said."""
    with ThreadPoolExecutor(CALLERS) as callers:
        return list(callers.map(say, range(number)))


def kept(tenant: Tenancy) -> list[UserFeedback]:
    with tenant.runtime.database.transaction() as session:
        return list(session.scalars(select(UserFeedback).where(UserFeedback.tenant_id == tenant.id)))


def test_of_one_keys_words_as_many_are_taken_as_it_may_send(limited: Tenancy) -> None:
    model_id = limited.register_model()
    policy = f"/api/models/{model_id}/policy"
    assert limited.call("PUT", policy, json={"enabled": False}).status_code == 200  # nothing but words
    image, key = limited.draw(), key_of(limited)

    def say(number: int) -> Any:
        """Every other word is Ann's, who cannot make up her mind."""
        user = "ann" if number % 2 else f"user-{number}"
        body = {"kind": "thumb", "image_id": image, "liked": number % 4 == 1, "user_ref": user}
        return limited.http.post("/api/feedback", json=body, headers=key)

    started = time.monotonic()
    answers = flood(say)
    most = PER_MINUTE + (time.monotonic() - started) * PER_MINUTE / 60
    statuses = Counter(answer.status_code for answer in answers)
    assert set(statuses) == {201, 429}
    assert PER_MINUTE <= statuses[201] <= most
    for refusal in (answer for answer in answers if answer.status_code == 429):
        assert refusal.json()["code"] == "too_many_requests"
        assert int(refusal.headers["Retry-After"]) >= 1
    taken = [number for number, answer in enumerate(answers) if answer.status_code == 201]
    rows = kept(limited)
    assert sorted(str(row.id) for row in rows) == sorted(answers[number].json()["id"] for number in taken)
    counted = sorted(row.user_ref for row in rows if row.superseded_at is None)
    assert counted == sorted({"ann"} | {f"user-{number}" for number in taken if number % 2 == 0})
    standing = limited.get(policy).json()["standing"]
    assert [standing[name] for name in ("new_labels", "users", "thumbs")] == [len(counted)] * 3
    time.sleep(max(int(answer.headers["Retry-After"]) for answer in answers if answer.status_code == 429))
    assert say(1).status_code == 201


def test_of_one_tokens_words_the_first_is_taken(tenant: Tenancy) -> None:
    tenant.register_model()
    [output] = tenant.draw_several(user_ref="ann")
    body = {"kind": "thumb", "image_id": output["id"], "feedback_token": output["feedback_token"]}

    def say(number: int) -> Any:
        return tenant.http.post("/api/feedback", json=body | {"liked": number % 2 == 0})

    answers = flood(say, number=300)
    assert Counter(answer.status_code for answer in answers) == {201: 1, 409: 299}
    [row] = kept(tenant)
    assert (row.user_ref, row.superseded_at) == ("ann", None)
