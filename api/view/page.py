"""One page of a list."""

from collections.abc import Sequence
from typing import Generic, TypeVar

from pydantic import BaseModel

Item = TypeVar("Item", bound=BaseModel)


class Page(BaseModel, Generic[Item]):
    """Newest first. Send `next_cursor` as `cursor` for the rest; it is null at the end."""

    items: Sequence[Item]
    next_cursor: str | None
