"""Posts to webhooks: signed by Standard Webhooks, to no other place than was checked, and not for long."""

import socket
import ssl
import time
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import httpcore2 as httpcore
from standardwebhooks import Webhook

from core.domain.address import is_public
from core.domain.errors import InvalidInput
from core.domain.webhook import Answer, judge, read_retry_after
from core.domain.webhook_url import WebhookUrl, read_webhook_url
from core.infra.pinned_network import CONNECT_SECONDS, NotAllowed, PinnedNetwork, Resolve

TOTAL_SECONDS = 10.0
_READ_BYTES = 4096
_TROUBLE = (
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.UnsupportedProtocol,
)


def resolve(host: str, port: int) -> Sequence[str]:
    """What the system says of a name."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


class WebhookSender:
    """Makes requests that follow no redirect, use no proxy and keep no connection. Safe to share between threads.

    With `private` they may go by HTTP, and anywhere. `resolve` looks names up, and `trust` is whose certificates are
    believed; the system's are unless given.
    """

    def __init__(self, *, private: bool, resolve: Resolve = resolve, trust: ssl.SSLContext | None = None) -> None:
        self._private = private
        self._resolve = resolve
        self._trust = trust or httpcore.default_ssl_context()

    def post(self, url: str, *, words: bytes, delivery_id: UUID, at: datetime, secrets: Sequence[str]) -> Answer:
        """Post once; what came of it, which is no error of ours whatever it is."""
        try:
            target = read_webhook_url(url, private=self._private)
        except InvalidInput as error:  # the operator has become stricter since
            return Answer(error=f"The URL {error.problems[0].message}.", is_final=True)
        try:
            status, retry_after = self._send(target, words, _signed(words, delivery_id, at, secrets))
        except _TROUBLE as error:
            return Answer(error=_words(error))
        return judge(status, asked_delay=read_retry_after(retry_after, now=at))

    def _send(self, url: WebhookUrl, words: bytes, signed: dict[str, str]) -> tuple[int, str]:
        """The status of the answer, and its `Retry-After` or an empty word."""
        network = PinnedNetwork(
            url.host,
            url.port,
            resolve=self._resolve,
            allows=lambda address: self._private or is_public(address),
            deadline=time.monotonic() + TOTAL_SECONDS,
        )
        place = httpcore.URL(scheme=url.scheme, host=url.host, port=url.port, target=url.target)
        fixed = [("Host", url.authority), ("Content-Type", "application/json"), ("User-Agent", "Lorikeet")]
        with (
            httpcore.ConnectionPool(ssl_context=self._trust, network_backend=network) as pool,
            pool.stream("POST", place, headers=[*fixed, *signed.items()], content=words) as response,
        ):
            _read_a_little(response)
            said = (value for name, value in response.headers if name.lower() == b"retry-after")
            return int(response.status), next(said, b"").decode("latin-1").strip()


def _signed(words: bytes, delivery_id: UUID, at: datetime, secrets: Sequence[str]) -> dict[str, str]:
    """What lets the receiver know that it is us, and that it heard this before. https://www.standardwebhooks.com"""
    said, name = words.decode(), str(delivery_id)
    return {
        "webhook-id": name,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(Webhook(secret).sign(name, at, said) for secret in secrets),
    }


def _read_a_little(response: httpcore.Response) -> None:
    """Let a polite receiver say its piece, which nobody keeps; the status is what counts, however the body ends."""
    heard = 0
    try:
        for chunk in response.iter_stream():
            heard += len(chunk)
            if heard >= _READ_BYTES:
                return
    except _TROUBLE:
        return


def _words(error: Exception) -> str:
    """What went wrong, for the receiver's owner: nothing of the network that we stand in."""
    cause = error.__cause__ or error.__context__
    match error:
        case NotAllowed():
            return "Its name has no address, or one that is not public."
        case httpcore.ConnectTimeout():
            return f"It took no connection within {CONNECT_SECONDS:.0f} s."
        case httpcore.TimeoutException():
            return f"It gave no answer within {TOTAL_SECONDS:.0f} s."
        case httpcore.ConnectError() if isinstance(cause, ssl.SSLCertVerificationError):
            return f"Its certificate is not accepted: {cause.verify_message}."
        case httpcore.ConnectError() if isinstance(cause, ssl.SSLError):
            return "It does not speak TLS as it should."
        case httpcore.ConnectError():
            return "It takes no connection."
        case httpcore.ProtocolError():
            return "It gave no HTTP answer."
    return "The connection broke off."
