"""A fine-tuning over HTTP: its progress, its losses, what it leaves. What it learns is the main job's test."""

import json
import math

from cli.system import System
from tests.acceptance.http import call
from tests.acceptance.test_dataset import pictures

STEPS = 12


def test_a_training_shows_its_losses_and_leaves_an_adapter_with_a_manifest(stack: System) -> None:
    dataset = stack.client.create_dataset("small", pictures())
    request = {
        "dataset_id": dataset["id"],
        "name": "small-style",
        "description": "twelve steps",
        "trigger_word": "sks",
        "rank": 4,
        "steps": STEPS,
        "batch_size": 2,
        "seed": 1,
        "augment": {"flip": 0.5, "crop": 0.5, "color": 0.5},
        "sample_prompts": ["sks a star"],
    }
    messages: set[str] = set()
    job = stack.client.finish(stack.client.fine_tune(request), on_change=lambda each: messages.add(each["status"]))
    assert "running" in messages

    metrics = call(stack, "GET", f"/api/jobs/{job['id']}/metrics").json()
    assert [each["step"] for each in metrics["items"]] == list(range(1, STEPS + 1))
    assert all(math.isfinite(each["loss"]) and each["gradient_norm"] > 0 for each in metrics["items"])

    assert {output["type"] for output in job["outputs"]} == {"adapter", "adapter_kohya", "manifest", "sample"}
    [adapter] = call(stack, "GET", "/api/adapters?name=small-style").json()["items"]
    assert (adapter["job_id"], adapter["rank"], adapter["ref"]) == (job["id"], 4, "small-style@1")
    manifest = call(stack, "GET", adapter["urls"]["manifest"]).json()
    assert list(manifest)[:3] == ["name", "description", "model"]
    assert (manifest["dataset_digest"], manifest["trigger_word"]) == (dataset["digest"], "sks")
    [stored] = [output for output in job["outputs"] if output["type"] == "manifest"]
    assert json.loads(stack.client.download(stored["url"])) == manifest
    [sample] = [output for output in job["outputs"] if output["type"] == "sample"]
    assert call(stack, "GET", f"/api/images/{sample['id']}").json()["type"] == "sample"


def test_a_training_can_be_canceled(stack: System) -> None:
    dataset = stack.client.create_dataset("small", pictures())
    job = stack.client.fine_tune({"dataset_id": dataset["id"], "name": "never", "rank": 4, "steps": 100_000})
    for seen in stack.client.follow(job):
        if seen["progress"]["step"] > 0:
            stack.client.cancel(job["id"])
    assert seen["status"] == "canceled"
    assert call(stack, "GET", "/api/adapters?name=never").json()["items"] == []
