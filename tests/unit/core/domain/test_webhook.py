"""What is asked for, what is said, and when it is said again."""

import base64
import json
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from pydantic import ValidationError

from core.domain.generation import GenerationSpec
from core.domain.job import JobKind, JobStatus
from core.domain.training import TrainingSpec
from core.domain.webhook import (
    MAX_TRIES,
    Answer,
    Room,
    Told,
    Webhook,
    WebhookEvent,
    judge,
    make_secret,
    next_delay,
    read_retry_after,
)

URL = "https://example.com/hook?token=secret"


def test_who_names_no_events_is_told_of_the_end() -> None:
    spec = GenerationSpec(prompt="a", webhook=URL)
    assert spec.asked_webhook == Webhook(URL, (WebhookEvent.COMPLETED,))
    assert GenerationSpec(prompt="a").asked_webhook is None


def test_events_are_told_once_and_in_their_order() -> None:
    spec = GenerationSpec.model_validate(
        {"prompt": "a", "webhook": URL, "webhook_events": ["output", "start", "output"]}
    )
    assert spec.asked_webhook == Webhook(URL, (WebhookEvent.START, WebhookEvent.OUTPUT))


@pytest.mark.parametrize("given", [{"webhook_events": ["start"]}, {"webhook": None, "webhook_events": ["start"]}])
def test_events_without_a_webhook_are_a_mistake(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError) as caught:
        GenerationSpec.model_validate({"prompt": "a"} | given)
    assert [error["loc"] for error in caught.value.errors()] == [("webhook_events",)]


@pytest.mark.parametrize("events", [[], ["start", "nope"], "start", ["start"] * 9])
def test_events_that_are_none(events: object) -> None:
    with pytest.raises(ValidationError):
        GenerationSpec.model_validate({"prompt": "a", "webhook": URL, "webhook_events": events})


def test_no_dump_of_a_specification_has_the_url() -> None:
    generation = GenerationSpec(prompt="a", webhook=URL, webhook_events=(WebhookEvent.START,))
    training = TrainingSpec(dataset_id=UUID(int=0), name="a", webhook=URL)
    for spec in (generation, training):
        assert "webhook" not in spec.model_dump_json() + json.dumps(spec.model_dump(mode="json"))


def test_the_words_are_few_and_say_what_came_of_it() -> None:
    at, job_id, image_id = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), UUID(int=1), UUID(int=2)
    told = Told(
        event=WebhookEvent.COMPLETED,
        at=at,
        job_id=job_id,
        kind=JobKind.GENERATION,
        status=JobStatus.FAILED,
        url="https://me/api/jobs/1",
        error=("poisoned", "It broke."),
        outputs=[(image_id, "image", "00")],
    )
    assert json.loads(told.words()) == {
        "type": "job.completed",
        "timestamp": "2026-01-02T03:04:05+00:00",
        "data": {
            "job_id": str(job_id),
            "kind": "generation",
            "status": "failed",
            "error": {"code": "poisoned", "message": "It broke."},
            "outputs": [{"id": str(image_id), "type": "image", "sha256": "00"}],
            "url": "https://me/api/jobs/1",
        },
    }


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (200, Answer(200)),
        (204, Answer(204)),
        (299, Answer(299)),
        (302, Answer(302, "It answered 302: redirects are not followed.")),
        (101, Answer(101, "It answered 101.")),
        (404, Answer(404, "It answered 404.")),
        (410, Answer(410, "It answered 410.", is_final=True)),
        (500, Answer(500, "It answered 500.")),
    ],
)
def test_what_a_status_means(status: int, answer: Answer) -> None:
    assert judge(status) == answer
    assert answer.is_delivered == (200 <= status < 300)


def test_delays_grow_for_about_a_day_and_end() -> None:
    delays = [next_delay(tries, luck=0.5) for tries in range(1, MAX_TRIES)]
    waits = [delay for delay in delays if delay is not None]
    assert len(waits) == MAX_TRIES - 1 == 7
    assert waits == sorted(waits)
    assert timedelta(hours=20) < sum(waits, timedelta()) < timedelta(hours=28)
    assert next_delay(MAX_TRIES, luck=0.5) is None


def test_luck_spreads_them() -> None:
    least, most = (next_delay(2, luck=luck) for luck in (0.0, 1.0))
    assert (least, most) == (timedelta(seconds=48), timedelta(seconds=72))


def test_a_receiver_that_asks_for_a_longer_wait_has_it() -> None:
    assert next_delay(1, luck=0.5, asked=timedelta(seconds=1)) == timedelta(seconds=6)
    assert next_delay(1, luck=0.5, asked=timedelta(seconds=90)) == timedelta(seconds=90)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("90", 90),
        ("0", 0),
        ("Thu, 26 Nov 2026 12:01:30 GMT", 90),
        ("Thu, 26 Nov 2026 12:01:30 -0000", 90),
        ("Thu, 26 Nov 2026 11:00:00 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 15 * 3600),
        ("9" * 400, 15 * 3600),
        ("9" * 5000, 0),
        ("-1", 0),
        ("1.5", 0),
        ("²", 0),
        ("soon", 0),
        ("", 0),
    ],
)
def test_for_how_long_a_receiver_asks_us_to_wait(value: str, seconds: int) -> None:
    noon = datetime(2026, 11, 26, 12, tzinfo=UTC)
    assert read_retry_after(value, now=noon) == timedelta(seconds=seconds)


def test_no_tenant_and_no_host_has_all_the_room() -> None:
    assert Room.of(16, taken=3) == Room(13, per_tenant=8, per_host=4)
    assert Room.of(1, taken=2) == Room(0, per_tenant=1, per_host=1)


def test_a_secret_is_random_and_in_its_form() -> None:
    one, other = make_secret(), make_secret()
    assert one != other
    assert one.startswith("whsec_")
    assert len(base64.b64decode(one.removeprefix("whsec_"))) == 32
