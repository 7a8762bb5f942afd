"""The first tenant, its key and the first base model, made where they are missing."""

import sys
from collections.abc import Callable
from pathlib import Path

from sqlalchemy.orm import Session

from cli.environment import ROOT
from cli.ledger import write_private
from cli.refusal import Refusal, explained
from core.domain.base_model import BaseModelSpec, ModelStatus
from core.domain.errors import LorikeetError, NotFound, Unauthorized
from core.infra.database import Database
from core.infra.object_store import ObjectStore
from core.infra.repository import base_model as base_models
from core.infra.settings import Settings
from core.infra.table import Tenant
from core.infra.task_queue import TaskQueue
from core.services import api_key as api_keys
from core.services import model as models
from core.services import tenant as tenants

TINY = ROOT / "tiny" / "lorikeet-tiny"
TINY_NAME = "lorikeet-tiny"
FIRST_TENANT = "default"


def bootstrap(settings: Settings, *, key_file: Path, say: Callable[[str], None]) -> str:
    """A migrated system becomes one that can be used: bucket, tenant, key, model. Safe to repeat. Returns the key.

    A new key is said only where a terminal shows it, else its file.

    Raises:
        Refusal: a server that the user gave does not let us in.
    """
    database, queue = Database(settings.database_url, pool_size=1), TaskQueue(settings)
    try:
        ObjectStore(settings).create_bucket()
        with database.transaction() as session:
            key = _kept_key(session, key_file)
            fresh = key is None
            key = key or _new_key(session)
            with explained(key_file.parent):
                if fresh:
                    write_private(key_file, key + "\n")
        with database.transaction() as session:
            _register_tiny(session, queue)
    except LorikeetError as error:
        raise Refusal(error.message) from error
    finally:
        queue.close()
        database.close()
    if fresh:
        # It may do everything, and what is no terminal is most often a log.
        say(f"Your API key, kept in {key_file}: {key}" if sys.stdout.isatty() else f"Your API key is in {key_file}")
    return key


def _kept_key(session: Session, key_file: Path) -> str | None:
    if not key_file.exists():
        return None
    key = key_file.read_text().strip()
    try:
        api_keys.authenticate(session, key)
    except Unauthorized:
        return None
    return key


def _new_key(session: Session) -> str:
    return api_keys.create(session, tenant_id=_first_tenant(session).id, name="first")


def _first_tenant(session: Session) -> Tenant:
    try:
        return tenants.find_tenant(session, name=FIRST_TENANT)
    except NotFound:
        return tenants.create_tenant(session, name=FIRST_TENANT)


def _register_tiny(session: Session, queue: TaskQueue) -> None:
    """Offer the model that comes with the project to every tenant, at the place where it lies now."""
    tenant = _first_tenant(session)
    known = base_models.own_by_name(session, tenant_id=tenant.id, name=TINY_NAME)
    if known is None or known.status == ModelStatus.FAILED:
        spec = BaseModelSpec(name=TINY_NAME, source=str(TINY), description="The model that the project trains itself.")
        models.register(session, spec, tenant_id=tenant.id, shared=True, queue=queue)
    elif known.source != str(TINY):
        known.source = str(TINY)  # the project's folder was moved
