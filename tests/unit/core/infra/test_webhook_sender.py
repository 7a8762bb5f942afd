"""Posts to a real receiver, whatever it does; by TLS with a certificate of our own."""

import json
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
import trustme
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from core.domain.webhook import Answer, make_secret
from core.infra import webhook_sender
from core.infra.webhook_sender import WebhookSender
from tests import receiver
from tests.receiver import Behave, receiving

NAME = "hooks.example.com"
WORDS = json.dumps({"type": "job.completed"}).encode()
SECRET = make_secret()


def here(host: str, port: int) -> Sequence[str]:
    return ["127.0.0.1"]


def post(
    url: str, *, secrets: Sequence[str] = (SECRET,), private: bool = True, sender: WebhookSender | None = None
) -> Answer:
    sender = sender or WebhookSender(private=private, resolve=here)
    return sender.post(url, words=WORDS, delivery_id=UUID(int=7), at=datetime.now(UTC), secrets=secrets)


def test_the_receiver_can_tell_that_it_is_us() -> None:
    with receiving() as there:
        assert post(there.url) == Answer(200)
    [request] = there.received
    assert (request.path, request.body) == ("/hook", WORDS)
    headers = {name.lower(): value for name, value in request.headers.items()}
    assert headers["webhook-id"] == str(UUID(int=7))
    assert headers["content-type"] == "application/json"
    assert headers["host"] == f"127.0.0.1:{there.port}"
    assert Webhook(SECRET).verify(request.body, request.headers) == {"type": "job.completed"}
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(request.body + b" ", request.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(make_secret()).verify(request.body, request.headers)


def test_two_secrets_make_two_signatures_and_each_is_enough() -> None:
    older = make_secret()
    with receiving() as there:
        post(there.url, secrets=(SECRET, older))
    [request] = there.received
    for secret in (SECRET, older):
        Webhook(secret).verify(request.body, request.headers)


@pytest.mark.parametrize(
    ("behave", "answer"),
    [
        (receiver.status(204), Answer(204)),
        (receiver.status(500), Answer(500, "It answered 500.")),
        (receiver.status(410), Answer(410, "It answered 410.", is_final=True)),
        (
            receiver.status(503, **{"Retry-After": "90"}),
            Answer(503, "It answered 503.", asked_delay=timedelta(seconds=90)),
        ),
        (receiver.endless, Answer(200)),
        (receiver.nonsense, Answer(error="It gave no HTTP answer.")),
        (receiver.hang_up, Answer(error="It gave no HTTP answer.")),
    ],
)
def test_what_a_receiver_may_do(behave: Behave, answer: Answer) -> None:
    with receiving(behave) as there:
        assert post(there.url) == answer
    assert len(there.received) == 1


def test_a_redirect_is_not_followed() -> None:
    with receiving() as other, receiving(receiver.status(302, Location=other.url)) as there:
        assert post(there.url) == Answer(302, "It answered 302: redirects are not followed.")
    assert (len(there.received), other.received) == (1, [])


@pytest.mark.parametrize("behave", [receiver.hang, receiver.drip])
def test_no_receiver_is_waited_for_longer_than_it_may_take(behave: Behave, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_sender, "TOTAL_SECONDS", 0.3)
    with receiving(behave) as there:
        assert post(there.url).error == "It gave no answer within 0 s."


def test_nobody_there() -> None:
    with receiving() as there:
        url = there.url
    assert post(url) == Answer(error="It takes no connection.")


def test_no_proxy_of_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving() as proxy, receiving() as there:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert post(there.url) == Answer(200)
    assert proxy.received == []


def test_in_production_it_goes_nowhere_private() -> None:
    sender = WebhookSender(private=False, resolve=here)
    with receiving() as there:
        refused = post(there.url, sender=sender)
        hidden = post(f"https://{NAME}:{there.port}/", sender=sender)
    assert (refused.is_final, refused.error) == (True, "The URL must begin with https://.")
    assert hidden == Answer(error="Its name has no address, or one that is not public.")
    assert there.received == []


def certified(*names: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """What a server of these names presents, and what a client believes."""
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert(*names).configure_cert(server)
    authority.configure_trust(client)
    return server, client


def test_by_tls_the_certificate_and_the_request_are_the_names() -> None:
    server, client = certified(NAME)
    sender = WebhookSender(private=True, resolve=here, trust=client)
    with receiving(tls=server) as there:
        assert post(f"https://{NAME}:{there.port}/a?b=c", sender=sender) == Answer(200)
        [request] = there.received
        assert (request.path, request.headers["Host"]) == ("/a?b=c", f"{NAME}:{there.port}")
        assert request.server_name == NAME
        other = post(f"https://other.example.com:{there.port}/", sender=sender)
        unknown = post(f"https://{NAME}:{there.port}/")
    assert other.error is not None
    assert other.error.startswith("Its certificate is not accepted: Hostname mismatch")
    assert unknown.error is not None
    assert unknown.error.startswith("Its certificate is not accepted:")
    assert len(there.received) == 1


def test_what_speaks_no_tls() -> None:
    with receiving() as there:
        assert post(f"https://{NAME}:{there.port}/") == Answer(error="It does not speak TLS as it should.")
