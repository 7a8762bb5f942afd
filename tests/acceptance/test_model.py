"""Base models over HTTP: checked by a worker before they serve."""

import shutil
from pathlib import Path
from typing import Any

from cli.bootstrap import TINY
from cli.system import System
from tests.acceptance.http import call


def register(system: System, name: str, folder: Path) -> dict[str, Any]:
    answer = call(system, "POST", "/api/models", json={"name": name, "source": str(folder.resolve())})
    assert answer.status_code == 202, answer.text
    return [*system.client.follow(answer.json())][-1]


def model(system: System, name: str) -> dict[str, Any]:
    return next(each for each in system.client.models() if each["name"] == name)


def test_a_model_in_the_models_folder_is_checked_and_serves(stack: System) -> None:
    folder = stack.settings.model_dir / "copy"
    shutil.copytree(TINY, folder)
    job = register(stack, "copy", folder)
    assert (job["kind"], job["status"]) == ("registration", "succeeded"), job
    ready = model(stack, "copy")
    assert (ready["status"], ready["family"], ready["defaults"]["width"]) == ("ready", "sd1", 64)
    request = {"prompt": "a red star", "seed": 5, "steps": 4}
    images = [
        stack.client.finish(stack.client.generate(request | {"model": name}))["outputs"][0]
        for name in ("copy", "lorikeet-tiny")
    ]
    pixels = [stack.client.download(image["url"]).partition(b"IDAT")[2] for image in images]
    assert pixels[0] == pixels[1]


def test_a_model_that_cannot_be_loaded_says_why_and_serves_nobody(stack: System) -> None:
    folder = stack.settings.model_dir / "broken"
    shutil.copytree(TINY, folder)
    weights = next((folder / "unet").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:1000])
    job = register(stack, "broken", folder)
    assert (job["status"], job["error"]["code"]) == ("failed", "model_unusable"), job
    failed = model(stack, "broken")
    assert failed["status"] == "failed"
    assert failed["status_reason"]
    refused = call(stack, "POST", "/api/generate", json={"prompt": "a star", "model": "broken"})
    assert refused.status_code == 409
    assert failed["status_reason"] in refused.json()["detail"]
    shutil.copy(next((TINY / "unet").glob("*.safetensors")), weights)
    assert register(stack, "broken", folder)["status"] == "succeeded"
