"""S3 through boto3: the bytes of every artifact."""

import base64
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import boto3
import structlog
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

from core.domain.errors import NotFound, Unavailable
from core.infra.settings import Settings

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client
    from types_boto3_s3.type_defs import HeadObjectOutputTypeDef, ObjectIdentifierTypeDef

_log = structlog.get_logger()
_MOST_DELETED = 1000  # by one request
_MISSING = {"404", "NoSuchKey", "NotFound"}
_CLOSED = {"403", "AccessDenied", "AllAccessDisabled", "301", "PermanentRedirect", "InvalidBucketName"}


@dataclass(frozen=True)
class StoredObject:
    """An object's key, and when it was written, by the store's clock."""

    key: str
    written_at: datetime


class ObjectStore:
    """One bucket. Safe to share between threads.

    Every method raises `Unavailable` when the store cannot be reached or refuses.
    """

    def __init__(self, settings: Settings) -> None:
        self.bucket = settings.s3_bucket
        self._client = _client(settings, settings.s3_endpoint_url)
        self._public = _client(settings, settings.s3_public_endpoint_url) if settings.s3_public_endpoint_url else None

    @property
    def is_public(self) -> bool:
        """Whether clients reach the store themselves, so that a presigned URL is of use to them."""
        return self._public is not None

    def create_bucket(self) -> None:
        """Make the bucket unless it exists."""
        try:
            self._client.head_bucket(Bucket=self.bucket)
        except ClientError as error:
            if _code(error) not in _MISSING | {"NoSuchBucket"}:
                raise _away("did not tell of its bucket", self.bucket, error) from error
            self._make_bucket()
        except BotoCoreError as error:
            raise _away("is not reachable right now", self.bucket, error) from error

    def _make_bucket(self) -> None:
        try:
            self._client.create_bucket(Bucket=self.bucket)
        except (BotoCoreError, ClientError) as error:
            raise _away("did not make its bucket", self.bucket, error) from error

    def put(self, key: str, body: bytes | IO[bytes], *, content_type: str) -> None:
        """Write an object; a second write of a key replaces the first."""
        try:
            self._client.put_object(Bucket=self.bucket, Key=key, Body=body, ContentType=content_type)
        except (BotoCoreError, ClientError) as error:
            raise _away("did not take a file", key, error) from error

    def get(self, key: str) -> bytes:
        """Read a whole object.

        Raises:
            NotFound: no such key.
        """
        try:
            return self._client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        except ClientError as error:
            raise _translated(error, key) from error
        except BotoCoreError as error:
            raise _away("did not give a file", key, error) from error

    def stream(self, key: str, *, chunk_bytes: int = 2**18) -> Iterator[bytes]:
        """Read an object piece by piece; the first piece is asked for at once, so a missing key raises here."""
        try:
            body = self._client.get_object(Bucket=self.bucket, Key=key)["Body"]
        except ClientError as error:
            raise _translated(error, key) from error
        except BotoCoreError as error:
            raise _away("did not give a file", key, error) from error
        return body.iter_chunks(chunk_bytes)

    def upload(self, path: Path, key: str, *, content_type: str = "application/octet-stream") -> None:
        """Write a file, in parts where it is large."""
        try:
            self._client.upload_file(str(path), self.bucket, key, ExtraArgs={"ContentType": content_type})
        except (BotoCoreError, ClientError, boto3.exceptions.Boto3Error) as error:
            raise _away("did not take a file", key, error) from error

    def download(
        self, key: str, path: Path, *, bucket: str | None = None, on_piece: Callable[[], object] = lambda: None
    ) -> None:
        """Read an object into a file; the file appears only when it is whole.

        `on_piece` is called again and again while it comes; what it raises ends the download.

        Raises:
            NotFound: no such key; or one of another bucket than the service's own, and not open to it.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._client.download_file(bucket or self.bucket, key, str(path), Callback=lambda _: on_piece())
        except ClientError as error:
            if bucket is not None and _code(error) in _CLOSED:
                raise NotFound(f"{key} of the bucket {bucket} is not for this service.") from error
            raise _translated(error, key) from error
        except (BotoCoreError, boto3.exceptions.Boto3Error) as error:
            raise _away("did not give a file", key, error) from error

    def list(self, prefix: str, *, bucket: str | None = None) -> Iterator[tuple[str, int]]:
        """Every (key, size in bytes) that begins with `prefix`.

        Raises:
            NotFound: no such bucket; or another than the service's own, and not open to it.
        """
        try:
            for page in self._client.get_paginator("list_objects_v2").paginate(
                Bucket=bucket or self.bucket, Prefix=prefix
            ):
                for entry in page.get("Contents", []):
                    yield entry["Key"], entry["Size"]
        except ParamValidationError as error:
            raise NotFound(f"No bucket is called {bucket or self.bucket}.") from error
        except ClientError as error:
            if _code(error) == "NoSuchBucket":
                raise NotFound(f"There is no bucket {bucket or self.bucket}.") from error
            if bucket is not None and _code(error) in _CLOSED:
                raise NotFound(f"The bucket {bucket} is not open to this service.") from error
            raise _away("did not list its files", prefix, error) from error
        except BotoCoreError as error:
            raise _away("did not list its files", prefix, error) from error

    def size(self, key: str) -> int | None:
        """Bytes of an object, or None where there is none."""
        found = self._head(key)
        return found and found["ContentLength"]

    def written_at(self, key: str) -> datetime | None:
        """When an object was written, by the store's clock; None where there is none."""
        found = self._head(key)
        return found and found["LastModified"]

    def _head(self, key: str) -> "HeadObjectOutputTypeDef | None":
        try:
            return self._client.head_object(Bucket=self.bucket, Key=key)
        except ClientError as error:
            if _code(error) in _MISSING:
                return None
            raise _away("did not tell of a file", key, error) from error
        except BotoCoreError as error:
            raise _away("did not tell of a file", key, error) from error

    def page(self, *, after: str, limit: int = 1000) -> Sequence[StoredObject]:
        """Objects in the order of their keys, from the first behind `after`; none where there are no more."""
        try:
            answer = self._client.list_objects_v2(Bucket=self.bucket, StartAfter=after, MaxKeys=limit)
        except (BotoCoreError, ClientError) as error:
            raise _away("did not list its files", self.bucket, error) from error
        return [StoredObject(each["Key"], each["LastModified"]) for each in answer.get("Contents", [])]

    def delete(self, key: str) -> None:
        """Remove an object; no such key is fine."""
        try:
            self._client.delete_object(Bucket=self.bucket, Key=key)
        except (BotoCoreError, ClientError) as error:
            raise _away("did not delete a file", key, error) from error

    def delete_many(self, keys: Sequence[str]) -> None:
        """Remove objects, a thousand by a request; those that are not there are fine.

        Where the store keeps one all the same, that is `Unavailable`, too, and others may be gone.
        """
        for start in range(0, len(keys), _MOST_DELETED):
            some: list[ObjectIdentifierTypeDef] = [{"Key": key} for key in keys[start : start + _MOST_DELETED]]
            try:
                answer = self._client.delete_objects(Bucket=self.bucket, Delete={"Objects": some, "Quiet": True})
            except (BotoCoreError, ClientError) as error:
                raise _away("did not delete files", some[0]["Key"], error) from error
            for kept in answer.get("Errors", []):
                raise _away("did not delete a file", str(kept.get("Key")), RuntimeError(kept.get("Code")))

    def presign_get(self, key: str, *, content_type: str, file_name: str, lifetime_seconds: int) -> str:
        """A URL that gives the object to whoever holds it, as a file to save. Only where the store `is_public`."""
        assert self._public is not None
        return self._public.generate_presigned_url(
            "get_object",
            Params={
                "Bucket": self.bucket,
                "Key": key,
                "ResponseContentType": content_type,
                "ResponseContentDisposition": f'attachment; filename="{file_name}"',
            },
            ExpiresIn=lifetime_seconds,
        )

    def check(self) -> None:
        """Ask the store for its bucket."""
        try:
            self._client.head_bucket(Bucket=self.bucket)
        except (BotoCoreError, ClientError) as error:
            raise _away("is not reachable right now", self.bucket, error) from error


def _client(settings: Settings, endpoint_url: str | None) -> "S3Client":
    client = boto3.client(
        "s3",
        endpoint_url=endpoint_url,
        aws_access_key_id=settings.s3_access_key_id,
        aws_secret_access_key=settings.s3_secret_access_key.get_secret_value(),
        region_name=settings.s3_region,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            # Stores other than AWS answer 501 to the newer checksums.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            retries={"mode": "standard", "max_attempts": 3},
            connect_timeout=5,
            read_timeout=60,
            max_pool_connections=32,
        ),
    )
    client.meta.events.register("before-call.s3.DeleteObjects", _add_md5)
    return client


def _add_md5(params: dict[str, Any], **_: Any) -> None:
    """This request must have a checksum, and stores other than AWS know of none but the oldest."""
    digest = hashlib.md5(params["body"], usedforsecurity=False).digest()
    params["headers"]["Content-MD5"] = base64.b64encode(digest).decode()


def _away(what: str, key: str, error: Exception) -> Unavailable:
    """What went wrong, in words that anybody may read; addresses and keys are for the log alone."""
    _log.warning("store_failed", what=what, key=key, error=str(error))
    return Unavailable(f"The object store {what}.")


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _translated(error: ClientError, key: str) -> NotFound | Unavailable:
    if _code(error) in _MISSING:
        return NotFound(f"There is no object {key}.")
    return _away("did not give a file", key, error)
