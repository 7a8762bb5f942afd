"""Pictures from outside: checked by their content, decoded in a process of its own, written anew as plain PNG."""

import hashlib
from dataclasses import dataclass, field
from typing import IO

from core.domain.errors import InvalidInput
from core.infra.decoder_pool import DecoderLimit, DecoderPool, NotDecodedError, Question

MAX_BYTES = 64 * 2**20
MAX_PIXELS = 40_000_000
"""Of a picture as it arrives: a large camera's."""

_LIMIT = DecoderLimit()
_MESSAGES = {
    "unknown": "must be a PNG, JPEG or WebP picture",
    "too_large": f"must have at most {MAX_PIXELS:,} pixels",
    "animated": "must be a single picture, not an animation",
    "broken": "is broken or cut short",
    "limits": "cannot be decoded within the limits of "
    f"{_LIMIT.memory_bytes} bytes of memory and {_LIMIT.seconds:g} seconds",
}
_POOL = DecoderPool(_LIMIT)


@dataclass(frozen=True)
class CheckedImage:
    """A picture as RGB PNG without metadata. Sizes in pixels; `sha256` is of `png`."""

    png: bytes = field(repr=False)
    sha256: str
    width: int
    height: int


def check_image(file: IO[bytes], *, max_kept_pixels: int, pool: DecoderPool = _POOL) -> CheckedImage:
    """Read a PNG, JPEG or WebP and write it anew: upright, one frame, RGB, no metadata.

    A picture of more than `max_kept_pixels` is made smaller, its proportions kept; transparency becomes white.

    Raises:
        InvalidInput: no such picture, too large, more than one frame, broken, or more than the limits of the process
            that decodes it allow; the field is `image`.
        Unavailable: no process starts that could decode it.
    """
    size = file.seek(0, 2)
    file.seek(0)
    if size > MAX_BYTES:
        raise InvalidInput.of("image", f"may have at most {MAX_BYTES} bytes")
    try:
        answer = pool.decode(file, Question(size, MAX_PIXELS, max_kept_pixels))
    except NotDecodedError as refusal:
        raise InvalidInput.of("image", _MESSAGES[refusal.problem]) from None
    digest = hashlib.sha256(answer.png).hexdigest()
    return CheckedImage(png=answer.png, sha256=digest, width=answer.width, height=answer.height)


def close_decoders() -> None:
    """End the processes that decode pictures, as far as they have nothing to do."""
    _POOL.close()
