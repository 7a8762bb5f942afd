"""Signed paths: whoever holds one may use it until it expires, without a key."""

import hashlib
import hmac
from dataclasses import dataclass

from core.domain.errors import Unauthorized

_PURPOSE = b"lorikeet signed path 1"


@dataclass(frozen=True)
class Signer:
    """Signs a method with a path and an end of life (seconds since 1970)."""

    secret: bytes

    def query(self, path: str, *, method: str, expires: int) -> str:
        """The query string that makes the path usable."""
        return f"expires={expires}&signature={self._signature(path, method, expires)}"

    def verify(self, path: str, *, method: str, expires: int, signature: str, now: float) -> None:
        """Let a path pass whose signature is right and whose time has not come.

        Raises:
            Unauthorized: it is not ours, was changed, or has expired.
        """
        if not hmac.compare_digest(self._signature(path, method, expires).encode(), signature.encode()):
            raise Unauthorized("This URL's signature is not valid.")
        if now >= expires:
            raise Unauthorized("This URL has expired: ask for the resource again, and take the new one.")

    def _signature(self, path: str, method: str, expires: int) -> str:
        message = b"\n".join([_PURPOSE, method.encode(), path.encode(), str(expires).encode()])
        return hmac.new(self.secret, message, hashlib.sha256).hexdigest()
