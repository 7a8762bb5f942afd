"""Plain HTTP with a key, for what the launcher's own client does not say."""

import io
from typing import Any

import httpx2 as httpx
from PIL import Image

from cli.system import System


def call(system: System, method: str, path: str, **content: Any) -> httpx.Response:
    """The response, whatever its status. `path` may be a whole URL."""
    headers = {"Authorization": f"Bearer {system.key}"} | content.pop("headers", {})
    url = httpx.URL(system.client.url).join(path)
    return httpx.request(method, url, headers=headers, timeout=120, trust_env=False, **content)


def wait_for(system: System, answer: httpx.Response) -> dict[str, Any]:
    """The job of an answer once it has succeeded."""
    assert answer.status_code == httpx.codes.ACCEPTED, answer.text
    return system.client.finish(answer.json())


def picture_of(system: System, output: dict[str, Any]) -> Image.Image:
    """The picture of an output, fetched without a key."""
    image = Image.open(io.BytesIO(system.client.download(output["url"])))
    image.load()
    return image


def png(image: Image.Image) -> bytes:
    """A picture as PNG bytes."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
