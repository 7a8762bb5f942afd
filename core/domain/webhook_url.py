"""A webhook's URL, taken apart once: what is checked here is what is connected to, and nobody reads it differently."""

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from core.domain.address import Address, is_public
from core.domain.errors import InvalidInput

FIELD = "webhook"
MAX_LETTERS = 2000
_FORM = re.compile(
    r"(?P<scheme>[A-Za-z]+)://(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<target>(?:[/?][\x21\x22\x24-\x7e]*)?)"
)
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PORTS = {"https": 443, "http": 80}
_LEAST_PORT = 1024
_OWN_NAMES = frozenset(
    {
        *("arpa", "corp", "home", "internal", "intranet", "invalid", "lan"),
        *("local", "localdomain", "localhost", "onion", "private", "test"),
    }
)
"""Last labels of names that never belong to somebody else."""


@dataclass(frozen=True)
class WebhookUrl:
    """Where to post. `host` is a name in lower case, or an address without brackets; `target` begins with a slash."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """What a request's Host header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def address(self) -> Address | None:
        """The host, where it is no name."""
        if ":" in self.host:
            return IPv6Address(self.host)
        return IPv4Address(self.host) if _is_number(self.host) else None


def read_webhook_url(url: str, *, private: bool) -> WebhookUrl:
    """A URL that may be posted to, as far as it says itself; where its name leads is looked at later.

    With `private` it may be HTTP, and lead anywhere.

    Raises:
        InvalidInput: what is wrong with it.
    """
    match = _FORM.fullmatch(url) if len(url) <= MAX_LETTERS else None
    if match is None:
        raise _wrong(
            f"must be https://host/path in at most {MAX_LETTERS} ASCII characters, without user, password or fragment"
        )
    scheme = match["scheme"].lower()
    if scheme not in _PORTS or (scheme == "http" and not private):
        raise _wrong("must begin with https://")
    port = int(match["port"] or _PORTS[scheme])
    if not 0 < port < 2**16 or not (private or port == _PORTS[scheme] or port >= _LEAST_PORT):
        raise _wrong(f"must go to port 443, or one from {_LEAST_PORT} to 65535")
    target = match["target"] if match["target"].startswith("/") else f"/{match['target']}"
    found = WebhookUrl(scheme, _read_host(match["host"].lower(), private=private), port, target)
    if found.address is not None and not private and not is_public(found.address):
        raise _wrong("must go to an address that everybody reaches, not to a private or reserved one")
    return found


def _read_host(host: str, *, private: bool) -> str:
    if host.startswith("["):
        return _read_v6(host[1:-1])
    if _is_number(host):
        return _read_v4(host)
    labels = host.split(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise _wrong("must have a host name of letters, digits, dashes and dots that does not end with a dot")
    if not private and (len(labels) == 1 or labels[-1] in _OWN_NAMES):
        raise _wrong("must have a host name that everybody can look up")
    return host


def _is_number(host: str) -> bool:
    """Whether some reader takes the host for an IPv4 address: by the URL standard, its last label decides."""
    return _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]) is not None


def _read_v4(host: str) -> str:
    try:
        return str(IPv4Address(host))
    except AddressValueError:
        raise _wrong("must spell an address as four plain decimal numbers") from None


def _read_v6(host: str) -> str:
    try:
        return str(IPv6Address(host))
    except AddressValueError:
        raise _wrong("is no IPv6 address between its brackets") from None


def _wrong(message: str) -> InvalidInput:
    return InvalidInput.of(FIELD, message)
