"""Conditions on many ids at once: one parameter however many there are, where IN would have one for each."""

from collections.abc import Collection
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, ColumnElement, any_, literal
from sqlalchemy.dialects.postgresql import UUID as PG_UUID


def is_among(column: Any, ids: Collection[UUID]) -> ColumnElement[bool]:
    """Whether the column's id is one of these."""
    found: ColumnElement[bool] = column == any_(literal(list(ids), ARRAY(PG_UUID(as_uuid=True))))
    return found
