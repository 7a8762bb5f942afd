"""Feedback tokens: whoever holds one may rate its image until it expires, without a key."""

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass
from uuid import UUID

from core.domain.errors import Unauthorized

_PURPOSE = b"lorikeet feedback token 1"
_SIGNATURE_BYTES = 16
_EXPIRY_BYTES = 6
_TOKEN_BYTES = 16 + _EXPIRY_BYTES + _SIGNATURE_BYTES


@dataclass(frozen=True)
class TokenSigner:
    """Makes and reads tokens: an image's id and an end of life (seconds since 1970), signed, as URL-safe text."""

    secret: bytes

    def make(self, image_id: UUID, *, expires: int) -> str:
        """The token that lets its holder rate the image."""
        content = image_id.bytes + expires.to_bytes(_EXPIRY_BYTES)
        return base64.urlsafe_b64encode(content + self._signature(content)).rstrip(b"=").decode()

    def read(self, token: str, *, now: float) -> UUID:
        """The image that the token speaks for.

        Raises:
            Unauthorized: it is not ours, was changed, or has expired.
        """
        content, signature = _split(token)
        if not hmac.compare_digest(self._signature(content), signature):
            raise Unauthorized("This feedback token is not valid.")
        if now >= int.from_bytes(content[16:]):
            raise Unauthorized("This feedback token has expired: ask for the image again, and take the new one.")
        return UUID(bytes=content[:16])

    def _signature(self, content: bytes) -> bytes:
        return hmac.digest(self.secret, _PURPOSE + b"\n" + content, hashlib.sha256)[:_SIGNATURE_BYTES]


def _split(token: str) -> tuple[bytes, bytes]:
    try:
        raw = base64.b64decode(token.encode() + b"=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        raw = b""
    # A signature may have one text only: the bits that padding leaves over would make two.
    if len(raw) != _TOKEN_BYTES or base64.urlsafe_b64encode(raw).rstrip(b"=") != token.encode():
        raise Unauthorized("This feedback token is not valid.")
    return raw[:-_SIGNATURE_BYTES], raw[-_SIGNATURE_BYTES:]
