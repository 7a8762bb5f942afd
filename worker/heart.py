"""The heart of a worker process: keeps the leases of all its jobs, by one statement for all of them."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from core.domain.errors import JobCanceled, JobStopped, LorikeetError, OwnershipLost
from core.domain.job import Progress
from core.infra.database import Database
from core.services import run as runs
from core.services.run import Claim, Pulse

_log = structlog.get_logger()
_TICK_SECONDS = 0.5
_BEATS_PER_LEASE = 6


@dataclass(eq=False)
class Lease:
    """A claim that is being kept: how far its job is, and why to stop once there is a reason.

    `lost_at` is when it was found to be another's by now.
    """

    claim: Claim
    progress: Progress | None = None
    stop: JobStopped | None = None
    written: Progress | None = None
    renewed: float = field(default_factory=time.monotonic)
    lost_at: float | None = None

    def lose(self) -> None:
        """It is no longer ours."""
        self.stop, self.lost_at = OwnershipLost(), time.monotonic()


class Heart:
    """Writes progress soon after there is some, renews leases in time, and hears of cancels. Safe to share.

    Its thread lives while there is a lease to keep.
    """

    def __init__(self, database: Database, *, lease_seconds: float) -> None:
        self._database = database
        self._lease_seconds = lease_seconds
        self._leases: list[Lease] = []
        self._beats = False
        self._idle_since = time.monotonic()
        self._lock = threading.Lock()

    def keep(self, lease: Lease) -> None:
        """Beat for this lease too, until it is let go."""
        with self._lock:
            self._leases.append(lease)
            if not self._beats:
                threading.Thread(target=self._run, name="heart", daemon=True).start()
                self._beats = True

    def let_go(self, lease: Lease) -> None:
        """Its run is over."""
        with self._lock:
            self._leases.remove(lease)
            self._idle_since = time.monotonic()

    def idle_seconds(self) -> float:
        """For how long there has been no claim; a run that lost its own has none."""
        with self._lock:
            lost = [each.lost_at for each in self._leases if each.lost_at is not None]
            if len(lost) < len(self._leases):
                return 0.0
            return time.monotonic() - min(lost, default=self._idle_since)

    def _run(self) -> None:
        rhythm = self._lease_seconds / _BEATS_PER_LEASE
        while True:
            time.sleep(min(_TICK_SECONDS, rhythm))
            with self._lock:
                leases = list(self._leases)
                if not leases:
                    self._beats = False
                    return
            now = time.monotonic()
            if due := [
                each
                for each in leases
                if not isinstance(each.stop, OwnershipLost)
                and (each.progress is not each.written or now - each.renewed >= rhythm)
            ]:
                self._beat(due)

    def _beat(self, leases: Sequence[Lease]) -> None:
        started = time.monotonic()
        said = [each.progress for each in leases]
        beats = [
            (each.claim, None if progress is each.written else progress)
            for each, progress in zip(leases, said, strict=True)
        ]
        try:
            with self._database.transaction() as session:
                pulses = runs.heartbeat(session, beats, lease_seconds=self._lease_seconds)
        except LorikeetError as error:
            _log.warning("heartbeat_failed", error=error.message)
            pulses = [Pulse.UNKNOWN] * len(leases)
        except Exception:  # noqa: BLE001  # whatever it was: every job of the process hangs on the next beat
            _log.exception("heartbeat_failed_unexpectedly")
            pulses = [Pulse.UNKNOWN] * len(leases)
        for lease, progress, pulse in zip(leases, said, pulses, strict=True):
            if pulse is Pulse.UNKNOWN:
                if started - lease.renewed > self._lease_seconds:
                    lease.lose()
            elif pulse is Pulse.LOST:
                lease.lose()
            else:
                lease.renewed, lease.written = started, progress
                lease.stop = JobCanceled() if pulse is Pulse.CANCELED else lease.stop
