"""Row-level security: what a tenant's transaction reaches is that tenant's, whatever it asks for."""

from collections.abc import Iterator
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import ProgrammingError

from core.infra.database import Database
from core.infra.settings import Settings
from core.infra.table import Adapter, Artifact, Base, Job, StableDiffusion
from tests.row_of_each_table import insert_a_row_of_each_table

CLOSED = {"tenant", "api_key", "upkeep_presence"}
"""What no tenant's transaction may even read."""

OPEN = {"work_rate", "worker_presence"}
"""What has no tenant, and is read by all."""

WALLED = sorted(set(Base.metadata.tables) - CLOSED - OPEN)


@pytest.fixture
def tenants(settings: Settings) -> Iterator[tuple[UUID, UUID]]:
    """Two tenants with a row in every table each."""
    engine = sa.create_engine(settings.database_url)
    yield insert_a_row_of_each_table(engine, name="one"), insert_a_row_of_each_table(engine, name="other")
    engine.dispose()


def count(database: Database, table: str, tenant_id: UUID | None) -> int:
    with database.transaction(tenant_id) as session:
        return session.scalar(sa.select(sa.func.count()).select_from(Base.metadata.tables[table])) or 0


@pytest.mark.parametrize("table", WALLED)
def test_a_tenant_sees_its_own_rows_alone(table: str, database: Database, tenants: tuple[UUID, UUID]) -> None:
    assert count(database, table, None) == 2
    assert [count(database, table, tenant_id) for tenant_id in tenants] == [1, 1]
    assert count(database, table, UUID(int=0)) == 0


@pytest.mark.parametrize("table", WALLED)
def test_a_tenant_changes_no_row_of_another(table: str, database: Database, tenants: tuple[UUID, UUID]) -> None:
    column = next(iter(Base.metadata.tables[table].columns)).name
    for statement in (f"UPDATE {table} SET {column} = {column}", f"DELETE FROM {table}"):
        with pytest.raises(RollBack), database.transaction(tenants[0]) as session:  # a part may refer to the row
            try:
                reached = session.connection().exec_driver_sql(statement).rowcount
            except sa.exc.DBAPIError as error:
                assert "permission denied" in str(error) or "foreign key" in str(error)
            else:
                assert reached == 1
            raise RollBack
    assert count(database, table, tenants[1]) == 1


class RollBack(Exception):
    pass


@pytest.mark.parametrize("table", sorted(CLOSED))
def test_keys_and_tenants_are_closed(table: str, database: Database, tenants: tuple[UUID, UUID]) -> None:
    with pytest.raises(ProgrammingError, match="permission denied"):
        count(database, table, tenants[0])


@pytest.mark.parametrize("table", sorted(OPEN))
def test_what_belongs_to_nobody_is_read_and_not_written(
    table: str, database: Database, tenants: tuple[UUID, UUID]
) -> None:
    assert count(database, table, tenants[0]) == 2
    with pytest.raises(ProgrammingError, match="permission denied"), database.transaction(tenants[0]) as session:
        session.execute(sa.delete(Base.metadata.tables[table]))


def test_a_row_for_another_tenant_is_refused(database: Database, tenants: tuple[UUID, UUID]) -> None:
    one, other = tenants
    with pytest.raises(ProgrammingError, match="row-level security"), database.transaction(one) as session:
        session.add(StableDiffusion(tenant_id=other, name="planted", source="/nowhere", options={}, defaults={}))


def test_a_row_is_not_given_away(database: Database, tenants: tuple[UUID, UUID]) -> None:
    one, other = tenants
    with pytest.raises(ProgrammingError, match="row-level security"), database.transaction(one) as session:
        session.execute(sa.update(Job).values(tenant_id=other))


def test_a_shared_model_is_read_by_all_and_changed_by_its_owner(database: Database, tenants: tuple[UUID, UUID]) -> None:
    one, other = tenants
    with database.transaction() as session:
        session.execute(sa.update(StableDiffusion).where(StableDiffusion.tenant_id == other).values(shared=True))
    assert count(database, "stable_diffusion", one) == 2
    with database.transaction(one) as session:
        changed = session.execute(sa.update(StableDiffusion).values(name="mine").returning(StableDiffusion.tenant_id))
        assert changed.scalars().all() == [one]


def test_the_next_transaction_of_the_connection_is_free_of_it(settings: Settings, tenants: tuple[UUID, UUID]) -> None:
    database = Database(settings.database_url, pool_size=1)
    assert [count(database, "job", tenant_id) for tenant_id in (tenants[0], None, tenants[1], None)] == [1, 2, 1, 2]
    database.close()


def test_the_role_without_a_tenant_sees_nothing(database: Database, tenants: tuple[UUID, UUID]) -> None:
    with database.transaction() as session:
        session.execute(sa.text("SET LOCAL ROLE lorikeet_tenant"))
        assert session.scalar(sa.select(sa.func.count()).select_from(Job)) == 0


def test_every_table_has_a_wall_or_is_known_to_need_none(database: Database) -> None:
    query = sa.text("SELECT relname FROM pg_class JOIN pg_policy ON polrelid = pg_class.oid WHERE relrowsecurity")
    with database.transaction() as session:
        assert set(session.scalars(query)) == set(WALLED)


def test_a_function_of_the_owners_counts_no_other_tenants_pictures(
    database: Database, tenants: tuple[UUID, UUID]
) -> None:
    one, other = tenants
    with database.transaction() as session:
        [adapter_id] = session.scalars(sa.select(Adapter.id).where(Adapter.tenant_id == other))
        credit = [{"id": str(adapter_id), "weight": 1.0}]
        session.execute(sa.update(Artifact).where(Artifact.tenant_id == other).values(adapters=credit, type="image"))
    drawn = sa.select(sa.func.images_drawn_by(adapter_id, other))
    counts = []
    for tenant_id in (None, other, one):
        with database.transaction(tenant_id) as session:
            counts.append(session.scalar(drawn))
    assert counts == [1, 1, 0]
