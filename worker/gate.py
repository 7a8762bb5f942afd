"""The gate through which every job comes into a worker process: one that may be what kills workers comes in alone."""

import threading
from collections.abc import Callable

from core.services.run import Claim


class Gate:
    """Counts the jobs inside. Safe to share."""

    def __init__(self) -> None:
        self._inside = 0
        self._is_shut = False
        self._lock = threading.Lock()

    def let_in(self, claim: Callable[[bool], Claim | None]) -> Claim | None:
        """Claim a job, with word of whether it would be alone; None where there is none or a suspect is inside."""
        with self._lock:  # two that ask at once must not both think that they would be alone
            if self._is_shut:
                return None
            claimed = claim(self._inside == 0)
            if claimed is not None:
                self._inside += 1
                self._is_shut = claimed.is_suspect
            return claimed

    def let_out(self) -> None:
        """A job is over."""
        with self._lock:
            self._inside -= 1
            self._is_shut = False
