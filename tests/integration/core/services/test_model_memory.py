"""Base models that are remembered outlive the transaction in which they were read, however that ended."""

from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from core.domain.base_model import ModelStatus
from core.infra.database import Database
from core.infra.table import StableDiffusion
from core.services.model_memory import ModelMemory
from core.services.tenant import create_tenant


@pytest.fixture
def tenant_id(database: Database) -> UUID:
    with database.transaction() as session:
        tenant = create_tenant(session, name=f"tenant-{uuid4().hex[:8]}")
        session.add(
            StableDiffusion(
                tenant_id=tenant.id,
                name="model",
                source="/x",
                status=ModelStatus.READY,
                family="sd1",
                options={},
                defaults={},
            )
        )
        return tenant.id


def test_a_model_read_in_a_transaction_that_was_rolled_back_is_as_good(database: Database, tenant_id: UUID) -> None:
    memory = ModelMemory()
    with pytest.raises(RuntimeError), database.transaction() as session:
        memory.usable(session, tenant_id=tenant_id, name="model")
        raise RuntimeError("as when the connection is cut")
    with database.transaction() as session:
        model = memory.usable(session, tenant_id=tenant_id, name="model")
        assert (model.name, model.tenant_id, model.family) == ("model", tenant_id, "sd1")


def test_a_remembered_model_is_not_asked_for(database: Database, tenant_id: UUID) -> None:
    memory = ModelMemory()
    with database.transaction() as session:
        memory.usable(session, tenant_id=tenant_id, name="model")
        session.execute(text("UPDATE stable_diffusion SET source = '/y'"))
    with database.transaction() as session:
        assert memory.usable(session, tenant_id=tenant_id, name="model").source == "/x"
