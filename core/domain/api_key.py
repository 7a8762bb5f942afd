"""An API key: what it looks like, and what its holder may do.

A key is `lk_`, 43 random letters and digits, and six more that are the CRC-32 of those: a mistyped or cut key is known
for one without a query, and whoever searches a tree for leaked keys finds no other words.
"""

import hashlib
import re
import secrets
import string
import zlib
from collections.abc import Iterable
from enum import StrEnum

from core.domain.job import JobKind

_PREFIX = "lk_"
_DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase
_RANDOM, _CHECK = 43, 6  # 62^43 is just over 2^256; 62^6 is more than 2^32
_FORM = re.compile(rf"{_PREFIX}([0-9A-Za-z]{{{_RANDOM}}})([0-9A-Za-z]{{{_CHECK}}})")
_FIRST_FORM = re.compile(rf"{_PREFIX}[\w-]{{43}}")
"""Keys made before there was a check; they go on opening doors."""

_SHOWN = len(_PREFIX) + 6


class Scope(StrEnum):
    """What a key lets its holder change. Everything of its own tenant it may read, whatever its scopes."""

    GENERATE = "generate"  # make and cancel pictures
    TRAIN = "train"  # datasets, adapters, trainings
    FEEDBACK = "feedback"  # say what users think, and take it back
    ADMIN = "admin"  # base models, policies, updates, rollouts


ALL_SCOPES = frozenset(Scope)
SCOPE_OF_JOB = {
    JobKind.GENERATION: Scope.GENERATE,
    JobKind.TRAINING: Scope.TRAIN,
    JobKind.REGISTRATION: Scope.ADMIN,
    JobKind.MODEL_UPDATE: Scope.ADMIN,
}
"""What submits a job of each kind, and cancels it."""


def make_key() -> str:
    """A new key."""
    words = "".join(secrets.choice(_DIGITS) for _ in range(_RANDOM))
    return _PREFIX + words + _check_of(words)


def is_formed(key: str) -> bool:
    """Whether it can be a key at all."""
    if match := _FORM.fullmatch(key):
        return secrets.compare_digest(match[2], _check_of(match[1]))
    return _FIRST_FORM.fullmatch(key) is not None


def shown_part(key: str) -> str:
    """How a key is told from others where it must not be shown: its first letters."""
    return key[:_SHOWN]


def digest(key: str) -> str:
    """What is kept of a key. It is 256 random bits, so a plain hash is as good as a slow one."""
    return hashlib.sha256(key.encode()).hexdigest()


def read_scopes(words: Iterable[str]) -> frozenset[Scope]:
    """The scopes that are named.

    Raises:
        ValueError: one does not exist, or there is none.
    """
    scopes = frozenset(Scope(word) for word in words)
    if not scopes:
        raise ValueError(f"a key needs a scope: {', '.join(Scope)}")
    return scopes


def _check_of(words: str) -> str:
    number, check = zlib.crc32(words.encode()), ""
    for _ in range(_CHECK):
        number, digit = divmod(number, len(_DIGITS))
        check = _DIGITS[digit] + check
    return check
