"""Base models that were ready a moment ago, so that not every submit has to ask."""

import time
from uuid import UUID

from sqlalchemy.orm import Session

from core.infra.table import StableDiffusion
from core.services import model as models

REMEMBERED_SECONDS = 5.0
"""A change of a ready model reaches a process after so long at most; one that is not ready is asked for each time."""

_MAX_REMEMBERED = 10_000


class ModelMemory:
    """Remembers ready models by tenant and name. Safe to share between threads."""

    def __init__(self) -> None:
        self._known: dict[tuple[UUID, str], tuple[StableDiffusion, float]] = {}

    def usable(self, session: Session, *, tenant_id: UUID, name: str) -> StableDiffusion:
        """The base model that a request means by a name, ready to serve; it may be no part of the session.

        Raises:
            InvalidInput: there is no such model.
            Conflict: it is being checked, or its check failed.
        """
        model, until = self._known.get((tenant_id, name), (None, 0.0))
        if model is not None and until > time.monotonic():
            return model
        model = models.usable(session, tenant_id=tenant_id, name=name)
        session.expunge(model)  # a rollback would empty every row of the session
        if len(self._known) >= _MAX_REMEMBERED:
            self._known.clear()
        self._known[tenant_id, name] = model, time.monotonic() + REMEMBERED_SECONDS
        return model
