"""What every table shares: naming of constraints, types of columns, checks from enums."""

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID, uuid4

from sqlalchemy import CheckConstraint, DateTime, ForeignKey, MetaData, String, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import UUID as PG_UUID
from sqlalchemy.orm import DeclarativeBase, mapped_column


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012  # SQLAlchemy reads it from the class
        datetime: DateTime(timezone=True),
        UUID: PG_UUID(as_uuid=True),
        dict[str, Any]: JSONB,
        list[Any]: JSONB,
    }


Id = Annotated[UUID, mapped_column(primary_key=True, default=uuid4)]
TenantId = Annotated[UUID, mapped_column(ForeignKey("tenant.id"), index=True)]
CreatedAt = Annotated[datetime, mapped_column(server_default=func.now())]
Sha256 = Annotated[str, mapped_column(String(64))]


def one_of(column: str, values: Iterable[StrEnum]) -> CheckConstraint:
    """The column holds one of the enum's values; a check is easier to migrate than a Postgres enum."""
    allowed = ", ".join(f"'{value}'" for value in sorted(values))
    return CheckConstraint(f"{column} IN ({allowed})", name=f"{column}_known")
