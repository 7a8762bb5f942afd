"""The life of any job on a worker: claim, heartbeat, run, then finish, fail, cancel or give back.

The only broad try/except of the worker is here.
"""

import random
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import structlog

from core.domain.base_model import ModelHandle
from core.domain.errors import (
    InvalidInput,
    JobCanceled,
    JobFailure,
    JobInterrupted,
    JobStopped,
    LorikeetError,
    NotFound,
    OwnershipLost,
    Unavailable,
)
from core.domain.job import JobKind, Progress
from core.domain.outcome import Outcome
from core.infra.full_disk import is_full
from core.services import run as runs
from core.services.run import Claim
from worker.heart import Lease
from worker.runtime import Runtime

_log = structlog.get_logger()


class Run:
    """One claimed job while it runs: what to do, how far it is, whether to stop. The heart keeps its lease."""

    def __init__(self, claim: Claim, runtime: Runtime) -> None:
        self.claim = claim
        self._runtime = runtime
        self._lease = Lease(claim)

    @property
    def job_id(self) -> UUID:
        return self.claim.job_id

    @property
    def claim_epoch(self) -> int:
        return self.claim.claim_epoch

    @property
    def tenant_id(self) -> UUID:
        return self.claim.tenant_id

    @property
    def plan(self) -> dict[str, Any]:
        return self.claim.plan

    @property
    def model(self) -> ModelHandle:
        return self.claim.model

    def report(self, *, step: int, steps: int, message: str) -> None:
        """Say how far the work is; written with the next heartbeat."""
        self._lease.progress = Progress(step, steps, message)

    def should_stop(self) -> bool:
        """Whether to stop at the next step."""
        return self._lease.stop is not None or self._is_interrupted()

    def _is_interrupted(self) -> bool:
        # Pictures take seconds, so a draining worker finishes them. All else goes on elsewhere: a training from its
        # checkpoint, a registration from the files that are there.
        return self.claim.kind is not JobKind.GENERATION and self._runtime.draining.is_set()

    @property
    def stop_reason(self) -> JobStopped | None:
        """Why to stop; None while there is no reason."""
        return self._lease.stop or (JobInterrupted() if self._is_interrupted() else None)

    def __enter__(self) -> Self:
        self._runtime.heart.keep(self._lease)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runtime.heart.let_go(self._lease)


Handler = Callable[[Run, Runtime], Outcome]


def run_next(runtime: Runtime, handlers: Mapping[JobKind, Handler]) -> bool:
    """Claim a job, best of a model that is in memory, and see it to its end; whether there was one."""
    # Whatever is given to an engine that hangs would only be lost with it.
    if runtime.draining.is_set() or runtime.engine_busy_seconds() > runtime.settings.lease_seconds:
        return False
    claim = runtime.gate.let_in(lambda is_alone: _claim(runtime, tuple(handlers), is_alone=is_alone))
    if claim is None:
        return False
    try:
        with structlog.contextvars.bound_contextvars(job_id=str(claim.job_id), claim_epoch=claim.claim_epoch):
            _log.info("claimed", kind=claim.kind)
            _run(claim, runtime, handlers[claim.kind])
    except OwnershipLost:
        _log.warning("ownership_lost", job_id=str(claim.job_id), claim_epoch=claim.claim_epoch)
    finally:
        runtime.gate.let_out()
    return True


def _claim(runtime: Runtime, kinds: tuple[JobKind, ...], *, is_alone: bool) -> Claim | None:
    with runtime.database.transaction() as session:
        return runs.claim_next(
            session,
            kinds=kinds,
            worker_id=runtime.worker_id,
            lease_seconds=runtime.settings.lease_seconds,
            held=runtime.holding().models,
            affinity_seconds=runtime.settings.affinity_seconds,
            takes_suspects=is_alone,
        )


def _run(claim: Claim, runtime: Runtime, handle: Handler) -> None:
    with Run(claim, runtime) as run:
        try:
            outcome = handle(run, runtime)
        except JobStopped as stopped:
            _end_stopped(claim, runtime, run.stop_reason or stopped)
        except Unavailable as error:
            _give_back(claim, runtime, error.message)
        except (JobFailure, InvalidInput, NotFound) as error:
            _log.info("failed", code=error.code, error=error.message)
            reason = error
            _commit(claim, runtime, lambda session: runs.fail(session, claim, reason))
        except Exception as error:  # noqa: BLE001  # whatever it was, the job must end or run again
            if is_full(error):  # no fault of the job's, as little as an outage
                _give_back(claim, runtime, "This worker's disk is full.")
                return
            _try_again(claim, runtime, error)
        else:
            _finish(claim, runtime, outcome)


def _finish(claim: Claim, runtime: Runtime, outcome: Outcome) -> None:
    try:
        _commit(claim, runtime, lambda session: runs.finish(session, claim, outcome))
    except LorikeetError:
        raise
    except Exception as error:  # noqa: BLE001  # an outcome that the database does not take is no worker's death
        _try_again(claim, runtime, error)
    else:
        _log.info("finished", outputs=len(outcome.outputs))


def _try_again(claim: Claim, runtime: Runtime, surprise: Exception) -> None:
    _log.error("failed_unexpectedly", exc_info=surprise)
    _commit(claim, runtime, lambda session: runs.fail_unexpectedly(session, claim, surprise))


def _give_back(claim: Claim, runtime: Runtime, reason: str) -> None:
    """Something that the job needs is not to be had for now; it runs again, perhaps elsewhere."""
    _log.warning("gave_back", error=reason)
    delay = timedelta(seconds=random.uniform(2, 10))
    _commit(claim, runtime, lambda session: runs.give_back(session, claim, delay=delay))


def _end_stopped(claim: Claim, runtime: Runtime, reason: JobStopped) -> None:
    _log.info("stopped", reason=reason.code)
    if isinstance(reason, JobCanceled):
        _commit(claim, runtime, lambda session: runs.mark_canceled(session, claim))
    elif isinstance(reason, OwnershipLost):
        raise reason
    else:
        _commit(claim, runtime, lambda session: runs.give_back(session, claim, delay=timedelta(0)))


def _commit(claim: Claim, runtime: Runtime, write: Callable[[Any], None]) -> None:
    """Write the end of a run, and again while the database is away; the lease says for how long it makes sense.

    A commit whose answer was lost may have happened: the second try then finds the run ended, and that is that.
    """
    give_up_at = time.monotonic() + runtime.settings.lease_seconds
    tried = False
    while True:
        try:
            with runtime.database.transaction() as session:
                if tried and runs.has_ended(session, claim):
                    return
                write(session)
        except Unavailable as error:
            tried = True
            _log.warning("commit_failed", error=error.message)
            if time.monotonic() > give_up_at:
                raise OwnershipLost from error
            time.sleep(random.uniform(0.2, 1.0))
        else:
            runtime.queue.say_ended(claim.job_id)
            return
