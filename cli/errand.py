"""The commands that speak to a running API: submit, fine-tune, watch, cancel."""

import base64
import json
import mimetypes
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console

from cli.client import Client, Job, Picture
from cli.environment import data_folder, read_given
from cli.progress import follow
from cli.refusal import Refusal, explained

_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp"})


def open_client() -> Client:
    """A client of the API in LORIKEET_URL with the key in LORIKEET_API_KEY; of the local system unless given."""
    given = read_given()
    url = os.environ.get("LORIKEET_URL") or f"http://127.0.0.1:{given.get('PORT', '5000')}"
    key = os.environ.get("LORIKEET_API_KEY")
    key_file = data_folder(given) / "api_key"
    if not key and not key_file.exists():
        raise Refusal(f"There is no key in LORIKEET_API_KEY nor in {key_file}. `lorikeet up` makes one.")
    return Client(url, key or key_file.read_text().strip())


def submit(console: Console, prompt: str, fields: Sequence[str], *, out: Path | None) -> None:
    """Submit a generation; with `out`, wait for it and put its pictures there."""
    request = {"prompt": prompt, **read_fields(fields)}
    image = request.get("init_image")
    if isinstance(image, str) and Path(image).is_file():
        kind = mimetypes.guess_type(image)[0] or "image/png"
        request["init_image"] = f"data:{kind};base64,{base64.b64encode(Path(image).read_bytes()).decode()}"
    client = open_client()
    _see_through(console, client, client.generate(request), title=prompt, out=out)


def fine_tune(console: Console, folder: Path, name: str, fields: Sequence[str], *, out: Path | None) -> None:
    """Upload a folder of pictures and train on it; with `out`, wait for the adapter and put its files there."""
    pictures = read_pictures(folder)
    client = open_client()
    dataset = client.create_dataset(name, pictures)
    console.print(f"Dataset {dataset['id']}: {len(pictures)} pictures.")
    job = client.fine_tune({"dataset_id": dataset["id"], "name": name, **read_fields(fields)})
    _see_through(console, client, job, title=f"Training {name}", out=out)


def watch(console: Console, job_id: str, *, out: Path) -> None:
    """Follow a job and fetch what it made."""
    client = open_client()
    _see_through(console, client, client.job(job_id), title=job_id, out=out)


def cancel(console: Console, job_id: str) -> None:
    """Ask a job to stop."""
    console.print(f"{job_id} is {open_client().cancel(job_id)['status']}.")


def read_fields(fields: Sequence[str]) -> dict[str, Any]:
    """FIELD=VALUE pairs as a request: a value is JSON where it can be read as such, and text elsewhere.

    Raises:
        Refusal: a pair without an equals sign.
    """
    request: dict[str, Any] = {}
    for field in fields:
        name, equals, text = field.partition("=")
        if not equals:
            raise Refusal(f"--set wants FIELD=VALUE, such as steps=20, not {field}.")
        try:
            request[name] = json.loads(text)
        except ValueError:
            request[name] = text
    return request


def read_pictures(folder: Path) -> list[Picture]:
    """The pictures of a folder, in the order of their names, with the captions beside them.

    Raises:
        Refusal: no such folder, no picture in it, or a picture without its caption.
    """
    if not folder.is_dir():
        raise Refusal(f"There is no folder {folder}.")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)
    bare = [path.name for path in paths if not path.with_suffix(".txt").is_file()]
    if not paths or bare:
        what = f"has no caption for {', '.join(bare)}" if bare else "holds no PNG, JPEG or WebP picture"
        raise Refusal(f"{folder} {what}. Each picture needs its caption in a .txt file of the same name.")
    return [Picture(path.name, path.read_bytes(), path.with_suffix(".txt").read_text().strip()) for path in paths]


def _see_through(console: Console, client: Client, job: Job, *, title: str, out: Path | None) -> None:
    console.print(f"Job {job['id']} is {job['status']}.")
    if out is None:
        return
    for output in follow(client, job, title=title, console=console)["outputs"]:
        name = urlsplit(output["url"]).path.rpartition("/")[2]
        suffix = mimetypes.guess_extension(output["content_type"]) or Path(name).suffix
        path = out / f"{output['type']}-{output['id']}{suffix}"
        with explained(out):
            out.mkdir(parents=True, exist_ok=True)
            path.write_bytes(client.download(output["url"]))
        console.print(str(path))
