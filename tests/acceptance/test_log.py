"""The logs of a whole system hold nothing that is somebody's."""

import re

from cli.system import System
from tests.acceptance.http import call, wait_for

LONG = "a sesquipedalian star on a blue background, " * 20
"""More than the 77 tokens of a text encoder: the libraries would say what they cut off."""
SPOILED = "a floccinaucinihilipilificating circle, " * 20


def test_no_log_holds_prompts_or_keys(stack: System) -> None:
    logs = stack.settings.data_dir / "logs"
    request = {"prompt": LONG, "negative_prompt": SPOILED, "steps": 2, "user_ref": "ada-of-the-accounts"}
    job = wait_for(stack, call(stack, "POST", "/api/generate", json=request))
    assert job["status"] == "succeeded"
    [output] = job["outputs"]
    url = call(stack, "GET", f"/api/images/{output['id']}").json()["url"]
    stack.client.download(url)
    said = {path.name: path.read_text() for path in logs.glob("*.log")}
    assert {"api.log", "worker-generation.log", "worker-training.log", "upkeep.log"} <= said.keys()
    assert any(job["id"] in said[name] and "finished" in said[name] for name in said if "generation" in name)
    signature = re.split("signature=", url, flags=re.IGNORECASE)[1].partition("&")[0]  # the store's or the API's
    secrets = ("sesquipedalian", "floccinaucini", "ada-of-the-accounts", stack.key, signature)
    assert all(len(secret) > 10 for secret in secrets)
    assert [(name, secret) for name, text in said.items() for secret in secrets if secret in text] == []
