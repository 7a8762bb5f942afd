"""URLs that answers carry: follow the links, don't build them."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from core.domain.feedback_token import TokenSigner
from core.domain.signature import Signer
from core.infra.object_store import ObjectStore

_DAY = 24 * 60 * 60


@dataclass(frozen=True)
class FileLink:
    """Where a file can be fetched, or put, without a key, until when."""

    url: str
    expires_at: datetime


@dataclass(frozen=True)
class Link:
    """Makes the URLs of one answer. Files come from the object store where clients reach it, else through the API.

    They are always taken through the API, which holds them to its limits.
    """

    base: str
    store: ObjectStore
    signer: Signer
    lifetime_seconds: int
    token_signer: TokenSigner
    token_days: int

    def to(self, path: str) -> str:
        """A path of the API as a URL."""
        return f"{self.base}{path}"

    def job(self, job_id: UUID) -> str:
        """Where a job is."""
        return self.to(f"/api/jobs/{job_id}")

    def feedback_token(self, image_id: UUID) -> str:
        """What lets its holder rate an image without a key."""
        return self.token_signer.make(image_id, expires=int(time.time()) + self.token_days * _DAY)

    def download(self, path: str, *, object_key: str, content_type: str, file_name: str) -> FileLink:
        """Where to fetch an object: `path` is where the API itself offers it."""
        if not self.store.is_public:
            return self._signed(path, method="GET")
        expires = self._expires
        url = self.store.presign_get(
            object_key, content_type=content_type, file_name=file_name, lifetime_seconds=self.lifetime_seconds
        )
        return FileLink(url, _date(expires))

    def upload(self, path: str) -> FileLink:
        """Where to PUT a file: `path` is where the API takes it."""
        return self._signed(path, method="PUT")

    def _signed(self, path: str, *, method: str) -> FileLink:
        expires = self._expires
        return FileLink(f"{self.to(path)}?{self.signer.query(path, method=method, expires=expires)}", _date(expires))

    @property
    def _expires(self) -> int:
        return int(time.time()) + self.lifetime_seconds


def _date(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
