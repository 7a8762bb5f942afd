"""Generations over HTTP, through the whole system."""

import base64
import hashlib
import time

import numpy as np
from PIL import Image

from cli.system import System
from tests.acceptance.http import call, picture_of, png, wait_for
from tiny.scorer import read
from tiny.world import Color

REQUEST = {"prompt": "a large red star on a blue background", "seed": 3}


def test_who_waits_gets_the_picture_in_one_request(stack: System) -> None:
    answer = call(stack, "POST", "/api/generate", json=REQUEST, headers={"Prefer": "wait=60"})
    assert answer.status_code == 200, answer.text
    job = answer.json()
    assert job["status"] == "succeeded"
    [output] = job["outputs"]
    content = stack.client.download(output["url"])
    assert (len(content), hashlib.sha256(content).hexdigest()) == (output["size_bytes"], output["sha256"])
    image = picture_of(stack, output)
    assert (image.format, image.size, output["seed"]) == ("PNG", (64, 64), 3)
    assert "Seed: 3" in image.info["parameters"]
    seen = read(image.convert("RGB"))
    assert (seen.color, seen.background) == (Color.RED, Color.BLUE)


def test_formats_sizes_and_schedulers(stack: System) -> None:
    request = REQUEST | {"output_format": "webp", "width": 96, "height": 64, "scheduler": "euler", "steps": 4}
    [output] = wait_for(stack, call(stack, "POST", "/api/generate", json=request))["outputs"]
    assert (output["content_type"], output["width"], output["height"]) == ("image/webp", 96, 64)
    assert picture_of(stack, output).size == (96, 64)


def test_image_to_image_begins_with_a_picture_sent_along_or_made_before(stack: System) -> None:
    drawn = wait_for(stack, call(stack, "POST", "/api/generate", json=REQUEST))["outputs"][0]
    picture = picture_of(stack, drawn).convert("RGB")
    data = "data:image/png;base64," + base64.b64encode(png(picture)).decode()
    request = REQUEST | {"seed": 4, "strength": 0.3}
    sent = wait_for(stack, call(stack, "POST", "/api/generate", json=request | {"init_image": data}))
    named = wait_for(stack, call(stack, "POST", "/api/generate", json=request | {"init_image": drawn["id"]}))
    assert sent["outputs"][0]["sha256"] != drawn["sha256"]
    images = [picture_of(stack, job["outputs"][0]).convert("RGB") for job in (sent, named)]
    assert images[0].tobytes() == images[1].tobytes()
    fresh = wait_for(stack, call(stack, "POST", "/api/generate", json=REQUEST | {"seed": 4}))["outputs"][0]
    assert difference(images[0], picture) < difference(picture_of(stack, fresh).convert("RGB"), picture)


def difference(one: Image.Image, other: Image.Image) -> float:
    return float(np.abs(np.asarray(one, dtype=float) - np.asarray(other, dtype=float)).mean())


def test_cancel_ends_exactly_that_job(stack: System) -> None:
    long = {"prompt": "a star", "steps": 200, "num_images": 16}
    running, waiting, other = (stack.client.generate(long), stack.client.generate(long), stack.client.generate(REQUEST))
    deadline = time.monotonic() + 60
    while stack.client.job(running["id"])["status"] == "queued":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    for job in (waiting, running):
        assert stack.client.cancel(job["id"])["status"] in ("canceling", "canceled")
    assert stack.client.finish(other)["status"] == "succeeded"
    for job in (waiting, running):
        last = [*stack.client.follow(job)][-1]
        assert (last["status"], last["outputs"]) == ("canceled", [])


def test_a_deadline_ends_a_job_that_takes_too_long(stack: System) -> None:
    long = {"prompt": "a star", "steps": 200, "num_images": 16}
    answer = call(stack, "POST", "/api/generate", json=long, headers={"Cancel-After": "1s"})
    last = [*stack.client.follow(answer.json())][-1]
    assert (last["status"], last["error"]["code"], last["outputs"]) == ("expired", "deadline_passed", [])
