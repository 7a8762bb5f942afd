"""The examples of docs/webhooks.md read what is really sent, and nothing else."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from standardwebhooks.webhooks import WebhookVerificationError

from cli.environment import ROOT
from core.domain.webhook import WebhookEvent, make_secret
from core.infra.settings import Settings
from core.infra.webhook_sender import WebhookSender
from tests.receiver import Received, receiving

PAGE = (ROOT / "docs" / "webhooks.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
OLD, NEW = make_secret(), make_secret()
Read = Callable[[str, dict[str, str], bytes], Any]


def sent(*, at: datetime) -> Received:
    """A request as a receiver gets it while secrets change over, with its headers in lower case."""
    with receiving() as there:
        sender = WebhookSender(private=True)
        sender.post(there.url, words=b'{"type":"job.start"}', delivery_id=UUID(int=1), at=at, secrets=(NEW, OLD))
    [request] = there.received
    return Received(request.path, {name.lower(): each for name, each in request.headers.items()}, request.body)


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_knows_what_is_ours(example: str) -> None:
    rooms: dict[str, Any] = {}
    exec(example, rooms)
    read: Read = rooms["read_webhook"]
    request = sent(at=datetime.now(UTC))
    for secret in (OLD, NEW):
        assert read(secret, request.headers, request.body) == {"type": "job.start"}
    late = sent(at=datetime.now(UTC) - timedelta(minutes=10))
    for secret, headers, body in (
        (make_secret(), request.headers, request.body),
        (NEW, request.headers, request.body + b" "),
        (NEW, request.headers | {"webhook-id": str(UUID(int=2))}, request.body),
        (NEW, late.headers, late.body),
    ):
        with pytest.raises((ValueError, WebhookVerificationError)):
            read(secret, headers, body)


def test_the_page_names_every_event_and_setting() -> None:
    assert len(EXAMPLES) == 2
    assert {f"| `{event}` |" for event in WebhookEvent} <= set(re.findall(r"^\| `\w+` \|", PAGE, re.MULTILINE))
    settings = {name.upper() for name in Settings.model_fields if name.startswith("webhook_")}
    assert all(name in PAGE for name in settings)
