"""Datasets whose making broke off: a row never points at files that are gone."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import pytest
from PIL import Image
from sqlalchemy import select
from sqlalchemy.orm import Session

from core.domain.dataset import UploadSpec
from core.domain.errors import Unavailable
from core.infra.database import Database
from core.infra.object_store import ObjectStore
from core.infra.settings import Settings
from core.infra.table import DatasetImage
from core.services import dataset as datasets
from core.services.dataset import Picture


class CommitsUnheard(Database):
    """Loses its connection after COMMIT took effect and before that was said."""

    @contextmanager
    def transaction(self, tenant_id: UUID | None = None) -> Iterator[Session]:
        with super().transaction(tenant_id) as session:
            yield session
        raise Unavailable("The database connection was lost.")


def picture() -> Picture:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), "red").save(buffer, "PNG")
    buffer.seek(0)
    return Picture("images.0", UploadSpec(file_name="red.png", caption="red"), buffer)


def test_a_commit_whose_answer_was_lost_keeps_the_files(
    settings: Settings, store: ObjectStore, database: Database, tenant_id: UUID
) -> None:
    unheard = CommitsUnheard(settings.database_url)
    with pytest.raises(Unavailable):
        datasets.create(unheard, [picture()], name="red", tenant_id=tenant_id, settings=settings, store=store)
    unheard.close()
    with database.transaction() as session:
        [key] = session.scalars(select(DatasetImage.object_key))
    assert store.size(key)
