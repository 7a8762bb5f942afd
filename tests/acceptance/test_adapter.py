"""An adapter leaves as a file and comes back in every form: the images stay the same."""

import io
from typing import Any

import pytest

from cli.client import Job
from cli.system import System
from core.infra.safetensors_file import read_header, write
from tests.acceptance.http import call, picture_of
from tests.acceptance.test_dataset import pictures

RANK, ALPHA = 4, 8.0


@pytest.fixture(scope="module")
def trained(stack: System) -> dict[str, Any]:
    """A small adapter that changes the UNet and the text encoder."""
    dataset = stack.client.create_dataset("style", pictures())
    request = {
        "dataset_id": dataset["id"],
        "name": "travelling",
        "rank": RANK,
        "alpha": ALPHA,
        "steps": 8,
        "learning_rate": 0.01,
        "train_text_encoder": True,
        "seed": 1,
    }
    stack.client.finish(stack.client.fine_tune(request))
    [adapter] = call(stack, "GET", "/api/adapters?name=travelling").json()["items"]
    found: dict[str, Any] = adapter
    return found


def as_peft(diffusers: bytes) -> bytes:
    """The UNet's part under PEFT's own names, which say nothing of alpha."""
    source, target = io.BytesIO(diffusers), io.BytesIO()
    tensors = {
        f"base_model.model.{tensor.name.removeprefix('unet.')}": tensor
        for tensor in read_header(source).tensors
        if tensor.name.startswith("unet.")
    }
    write(source, target, tensors=tensors, metadata={})
    return target.getvalue()


def import_file(system: System, name: str, content: bytes, **fields: str) -> dict[str, Any]:
    files = {"file": ("adapter.safetensors", content)}
    answer = call(system, "POST", "/api/adapters", data={"name": name} | fields, files=files)
    assert answer.status_code == 201, answer.text
    adapter: dict[str, Any] = answer.json()
    return adapter


def draw(system: System, *choices: dict[str, Any]) -> Job:
    request = {"prompt": "a red star", "seed": 5, "steps": 8, "adapters": list(choices)}
    return system.client.finish(system.client.generate(request))


def pixels(system: System, *choices: dict[str, Any]) -> bytes:
    return picture_of(system, draw(system, *choices)["outputs"][0]).tobytes()


def test_an_adapter_comes_back_in_every_form(stack: System, trained: dict[str, Any]) -> None:
    diffusers = stack.client.download(trained["urls"]["diffusers"])
    kohya = stack.client.download(trained["urls"]["kohya"])
    expected = pixels(stack, {"ref": "travelling"})
    assert expected != pixels(stack)
    for name, content in (("from-diffusers", diffusers), ("from-kohya", kohya)):
        adapter = import_file(stack, name, content)
        assert (adapter["rank"], adapter["alpha"]) == (RANK, ALPHA)
        assert pixels(stack, {"ref": name}) == expected, name
    import_file(stack, "from-peft", as_peft(diffusers), alpha=str(ALPHA))
    only_unet = {"ref": "travelling", "text_encoder_weight": 0.0}
    assert pixels(stack, {"ref": "from-peft"}) == pixels(stack, only_unet)
    again = import_file(stack, "round-trip", stack.client.download(adapter_url(stack, "from-kohya")))
    assert pixels(stack, {"ref": again["ref"]}) == expected


def adapter_url(system: System, name: str) -> str:
    [adapter] = call(system, "GET", f"/api/adapters?name={name}").json()["items"]
    url: str = adapter["urls"]["diffusers"]
    return url


def test_an_output_names_its_adapters(stack: System, trained: dict[str, Any]) -> None:
    job = draw(stack, {"ref": f"sha256:{trained['sha256']}", "weight": 0.5})
    [used] = job["outputs"][0]["adapters"]
    assert (used["id"], used["version"], used["weight"]) == (trained["id"], trained["version"], 0.5)
