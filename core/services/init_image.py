"""The picture that a generation begins with: sent along with the request, or made here before."""

import base64
import binascii
import io
import re
from dataclasses import dataclass
from uuid import UUID, uuid4

from sqlalchemy.orm import Session

from core.domain import object_key
from core.domain.errors import InvalidInput
from core.domain.generation import GenerationSpec
from core.infra.image_file import check_image
from core.infra.object_store import ObjectStore
from core.infra.repository import artifact as artifacts
from core.infra.repository import job as jobs
from core.infra.settings import Settings
from core.infra.table import Job
from core.services.removal import remove_after_commit

_DATA_URL = re.compile(r"data:image/[\w.+-]+;base64,")


@dataclass(frozen=True)
class InitImage:
    """Where the picture to begin with is stored, and how the job's own record of the request names it."""

    key: str
    name: str


@dataclass(frozen=True)
class SentPicture:
    """The picture that came with a request: where it is kept, or why it is not."""

    image: InitImage | None = None
    problem: InvalidInput | None = None

    @property
    def key(self) -> str | None:
        """Where it is kept."""
        return None if self.image is None else self.image.key


def comes_along(spec: GenerationSpec) -> bool:
    """Whether the picture to begin with is in the request itself."""
    return spec.init_image is not None and spec.init_image.startswith("data:")


def keep(spec: GenerationSpec, *, tenant_id: UUID, settings: Settings, store: ObjectStore) -> SentPicture:
    """Check and keep the picture that came with a request. It takes seconds: open no transaction around it.

    Raises:
        Unavailable: the object store is away, or no picture can be decoded.
    """
    assert spec.init_image is not None
    try:
        checked = check_image(io.BytesIO(_decode(spec.init_image)), max_kept_pixels=settings.max_pixels)
    except InvalidInput as problem:
        return SentPicture(problem=problem)
    key = object_key.init_image(tenant_id=tenant_id, folder=uuid4().hex, sha256=checked.sha256)
    store.put(key, checked.png, content_type="image/png")
    return SentPicture(InitImage(key, f"sha256:{checked.sha256}"))


def _decode(url: str) -> bytes:
    match = _DATA_URL.match(url)
    if match is None:
        raise InvalidInput.of("init_image", "must begin with data:image/png;base64, (or jpeg, webp)")
    try:
        return base64.b64decode(url[match.end() :], validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInput.of("init_image", "is not valid base64") from None


def find(session: Session, spec: GenerationSpec, sent: SentPicture | None, *, tenant_id: UUID) -> InitImage | None:
    """The picture that a request begins with, if it does with any; `sent` is what `keep` made of it.

    Raises:
        InvalidInput: it is none, or there is no such image.
    """
    if sent is not None:
        if sent.problem is not None:
            raise sent.problem
        return sent.image
    return None if spec.init_image is None else _earlier(session, spec.init_image, tenant_id)


def _earlier(session: Session, image_id: str, tenant_id: UUID) -> InitImage:
    try:
        image = artifacts.image_by_id(session, tenant_id=tenant_id, image_id=UUID(image_id))
    except ValueError:
        raise InvalidInput.of("init_image", "must be the id of an image, or a data: URL with base64") from None
    if image is None or not jobs.hold(session, job_id=image.job_id):
        raise InvalidInput.of("init_image", f"there is no image {image_id}")
    return InitImage(image.object_key, image_id)


def drop_unless_used(session: Session, sent: SentPicture, job: Job, *, store: ObjectStore) -> None:
    """Once the transaction is committed, delete a picture that its job does not begin with.

    A request that is sent again gives the same job, which has the picture that came the first time.
    """
    if sent.key is not None and sent.key != job.plan["init_image_key"]:
        remove_after_commit(session, store, prefix=sent.key)
