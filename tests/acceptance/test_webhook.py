"""Webhooks through the whole system: a picture is drawn, and a receiver on this machine is told."""

import hashlib
import time

import pytest
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from cli.system import System
from tests import receiver
from tests.acceptance.http import call, wait_for
from tests.receiver import Receiver, receiving

PATIENCE_SECONDS = 60.0


def await_told(there: Receiver, count: int) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(there.received) < count:
        assert time.monotonic() < deadline, there.received
        time.sleep(0.05)


def test_who_asks_for_it_is_told_from_start_to_end(stack: System) -> None:
    events = ["start", "output", "completed"]
    with receiving() as there:
        request = {"prompt": "a star", "seed": 3, "webhook": f"{there.url}?token=x", "webhook_events": events}
        job = wait_for(stack, call(stack, "POST", "/api/generate", json=request))
        await_told(there, 3)
    secret = call(stack, "GET", "/api/webhook-secret").json()["secret"]
    told = {}
    for request_ in there.received:
        said = Webhook(secret).verify(request_.body, request_.headers)
        told[said["type"]] = said["data"]
        assert request_.path == "/hook?token=x"
    assert set(told) == {f"job.{event}" for event in events}
    assert told["job.start"]["status"] == "running"
    assert {data["job_id"] for data in told.values()} == {job["id"]}
    [output] = told["job.completed"]["outputs"]
    picture = stack.client.download(job["outputs"][0]["url"])
    assert (output["id"], output["sha256"]) == (job["outputs"][0]["id"], hashlib.sha256(picture).hexdigest())
    seen = call(stack, "GET", job["urls"]["webhooks"]).json()["items"]
    assert sorted((each["event"], each["status_code"]) for each in seen) == sorted((event, 200) for event in events)
    assert job["webhook"] == there.url


def test_it_is_told_again_under_the_same_id_and_by_two_secrets_after_a_change(stack: System) -> None:
    with receiving(receiver.status(410), receiver.status(200)) as there:
        request = {"prompt": "a star", "webhook": there.url}
        job = wait_for(stack, call(stack, "POST", "/api/generate", json=request))
        await_told(there, 1)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (seen := call(stack, "GET", job["urls"]["webhooks"]).json()["items"])[0]["status"] != "given_up":
            assert time.monotonic() < deadline, seen
            time.sleep(0.05)
        secret = call(stack, "POST", "/api/webhook-secret/rotate").json()
        replay = call(stack, "POST", f"{job['urls']['webhooks']}/{seen[0]['id']}/replay")
        assert replay.json()["status"] == "waiting"
        await_told(there, 2)
    first, second = there.received
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == seen[0]["id"]
    assert first.body == second.body
    for each in (secret["secret"], secret["previous"]):
        Webhook(each).verify(second.body, second.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret["secret"]).verify(first.body, first.headers)
