"""Feedback tokens."""

import base64
from uuid import UUID

import pytest

from core.domain.errors import Unauthorized
from core.domain.feedback_token import TokenSigner
from core.domain.signature import Signer

SIGNER = TokenSigner(b"secret")
IMAGE = UUID("6f1c0f5e-6c1d-4c58-9d0a-0f2f6f3b1a77")
TOKEN = SIGNER.make(IMAGE, expires=100)


def test_a_token_speaks_for_its_image_until_it_expires() -> None:
    assert SIGNER.read(TOKEN, now=99.9) == IMAGE
    with pytest.raises(Unauthorized, match="expired"):
        SIGNER.read(TOKEN, now=100)


def test_a_token_is_short_and_safe_in_a_url() -> None:
    assert len(TOKEN) <= 60
    assert set(TOKEN) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")


def test_whatever_character_is_changed_breaks_it() -> None:
    for index, character in enumerate(TOKEN):
        changed = TOKEN[:index] + ("B" if character == "A" else "A") + TOKEN[index + 1 :]
        with pytest.raises(Unauthorized, match="not valid"):
            SIGNER.read(changed, now=0)


@pytest.mark.parametrize(
    "token", ["", "x", "ü", "\udc80", TOKEN[:-1], TOKEN + "A", TOKEN + "=", "=" * 51, " " + TOKEN, "A" * 200]
)
def test_what_is_none(token: str) -> None:
    with pytest.raises(Unauthorized, match="not valid"):
        SIGNER.read(token, now=0)


def test_another_secret_and_another_purpose_make_other_tokens() -> None:
    with pytest.raises(Unauthorized):
        SIGNER.read(TokenSigner(b"another").make(IMAGE, expires=100), now=0)
    content = base64.urlsafe_b64decode(TOKEN + "==")[:22]
    signature = Signer(b"secret").query(str(IMAGE), method="GET", expires=100).rpartition("=")[2]
    foreign = base64.urlsafe_b64encode(content + bytes.fromhex(signature)[:16]).rstrip(b"=").decode()
    with pytest.raises(Unauthorized):
        SIGNER.read(foreign, now=0)
