"""Signed paths."""

from urllib.parse import parse_qs

import pytest

from core.domain.errors import Unauthorized
from core.domain.signature import Signer

SIGNER = Signer(b"secret")
PATH = "/api/images/1/content"


def signature_of(signer: Signer = SIGNER, path: str = PATH, method: str = "GET", expires: int = 100) -> str:
    return parse_qs(signer.query(path, method=method, expires=expires))["signature"][0]


def test_a_signed_path_passes_until_it_expires() -> None:
    signature = signature_of()
    SIGNER.verify(PATH, method="GET", expires=100, signature=signature, now=99.9)
    with pytest.raises(Unauthorized, match="expired"):
        SIGNER.verify(PATH, method="GET", expires=100, signature=signature, now=100)


@pytest.mark.parametrize(
    ("path", "method", "expires", "signature"),
    [
        ("/api/images/2/content", "GET", 100, signature_of()),
        (PATH, "PUT", 100, signature_of()),
        (PATH, "GET", 101, signature_of()),
        (PATH, "GET", 100, signature_of(Signer(b"another secret"))),
        (PATH, "GET", 100, signature_of()[:-1]),
        (PATH, "GET", 100, ""),
        (PATH, "GET", 100, "ü"),
    ],
)
def test_whatever_is_changed_breaks_it(path: str, method: str, expires: int, signature: str) -> None:
    with pytest.raises(Unauthorized, match="signature"):
        SIGNER.verify(path, method=method, expires=expires, signature=signature, now=0)
