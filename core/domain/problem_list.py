"""Everything that is wrong with a request, gathered so that one answer names it all."""

from collections.abc import Iterator
from contextlib import contextmanager

from core.domain.errors import FieldProblem, InvalidInput


class ProblemList:
    """Gathers problems of fields; `raise_any` ends the gathering."""

    def __init__(self) -> None:
        self._problems: list[FieldProblem] = []

    def add(self, field: str, message: str) -> None:
        """Note one more."""
        self._problems.append(FieldProblem(field, message))

    @contextmanager
    def gather(self, *, field: str | None = None) -> Iterator[None]:
        """Note what the block raises as InvalidInput, under the name `field` where one is given."""
        try:
            yield
        except InvalidInput as error:
            self._problems += [FieldProblem(field or problem.field, problem.message) for problem in error.problems]

    def raise_any(self) -> None:
        """Raise what was noted, if anything.

        Raises:
            InvalidInput: at least one problem was noted.
        """
        if self._problems:
            raise InvalidInput(self._problems)
