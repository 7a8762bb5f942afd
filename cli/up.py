"""`lorikeet up`: the whole system on this machine, and a first picture to prove it."""

import threading
import time
from pathlib import Path

from rich.console import Console

from cli.environment import read_given
from cli.interruption import stoppable
from cli.progress import follow
from cli.refusal import Refusal, explained
from cli.system import System, running

FIRST_PROMPT = "a large red star on a blue background"
_GLANCE_SECONDS = 0.2


def up(console: Console, *, once: bool) -> None:
    """Start everything, make a first picture, and serve until Ctrl-C; with `once`, stop after the picture.

    Raises:
        Refusal: something keeps it from starting.
    """
    began = time.monotonic()
    with stoppable(), running(read_given(), say=lambda words: console.print(words, markup=False)) as system:
        console.print(f"Lorikeet serves on {system.client.url}, {time.monotonic() - began:.1f} s after its start.")
        try:
            path = first_picture(system, console)
            console.print(f"The first picture, {time.monotonic() - began:.1f} s after the start: {path}")
        except Refusal as refusal:
            if once:
                raise
            # It serves all the same: whoever runs it can now put right what is wrong.
            console.print(f"No first picture: {refusal}", markup=False)
        if once:
            return
        say_commands(system, console)
        threading.Event().wait()


def await_model(system: System, console: Console) -> None:
    """Wait until a worker has checked and loaded the default base model.

    Raises:
        Refusal: the model cannot be used, or no worker lives long enough to say.
    """
    name = system.settings.default_model
    with console.status(f"Waiting for a worker to load {name}"):
        while (model := _model(system, name)) is not None and model["status"] != "ready":
            if model["status"] == "failed":
                raise Refusal(
                    f"The base model {name} cannot be used: {model['status_reason'] or 'no reason was given'}"
                )
            system.check_alive()
            time.sleep(_GLANCE_SECONDS)


def first_picture(system: System, console: Console) -> Path:
    """Make a picture through HTTP, before the user's eyes; where it is."""
    await_model(system, console)
    job = system.client.generate({"prompt": FIRST_PROMPT, "seed": 1})
    job = follow(system.client, job, title=FIRST_PROMPT, console=console)
    path = system.settings.data_dir / "first-image.png"
    with explained(path):
        path.write_bytes(system.client.download(job["outputs"][0]["url"]))
    return path


def say_commands(system: System, console: Console) -> None:
    """Three commands to copy: submit, poll, fine-tune."""
    url, key_file = system.client.url, system.settings.data_dir / "api_key"
    console.print("\nTry it, from another terminal:\n", style="bold")
    console.print(
        _COMMANDS.format(url=url, key_file=key_file, picture=system.settings.data_dir / "first-image.png"),
        soft_wrap=True,
        highlight=False,
        markup=False,
    )
    console.print("Ctrl-C stops everything; the next start goes on from here.")


def _model(system: System, name: str) -> dict[str, object] | None:
    return next((model for model in system.client.models() if model["name"] == name), None)


_COMMANDS = """\
# submit a picture
curl -s {url}/api/generate -H "Authorization: Bearer $(cat {key_file})" \\
  -H "Content-Type: application/json" -d '{{"prompt": "a small yellow heart on a purple background"}}'

# poll it: put the id of the answer in place of JOB
curl -s {url}/api/jobs/JOB -H "Authorization: Bearer $(cat {key_file})"

# fine-tune on pictures of your own: upload them, then train
curl -s {url}/api/datasets -H "Authorization: Bearer $(cat {key_file})" \\
  -F name=mine -F images=@{picture} -F captions="a star of mine" |
  python3 -c 'import json, sys; print(json.dumps({{"dataset_id": json.load(sys.stdin)["id"],
    "name": "my-style", "steps": 50}}))' |
  curl -s {url}/api/fine-tune -H "Authorization: Bearer $(cat {key_file})" -H "Content-Type: application/json" -d @-
"""
