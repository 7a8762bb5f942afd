"""The worker's clock goes on whatever happens: nobody rings for a worker that says nothing."""

import threading
from collections.abc import Callable

from structlog.testing import capture_logs

from core.domain.job import WorkerKind
from tests.job_bench import JobBench
from worker.poller import Poller
from worker.runtime import Runtime


class Pool:
    """Celery's pool as the poller sees it; it refuses the first that it is given."""

    def __init__(self) -> None:
        self.refusals = 1

    def apply_async(self, work: Callable[[], None]) -> None:
        if self.refusals:
            self.refusals -= 1
            raise RuntimeError("cannot schedule new futures")
        threading.Thread(target=work).start()


def test_it_polls_again_after_an_error_of_any_kind_and_has_kept_its_slot(bench: JobBench, runtime: Runtime) -> None:
    bench.submit()
    runtime.settings = runtime.settings.model_copy(update={"poll_seconds": 0.05})
    worked = threading.Event()

    def work() -> bool:
        worked.set()
        return False

    poller = Poller(runtime, kind=WorkerKind.GENERATION, slots=1, work=work)
    thread = threading.Thread(target=poller.run, args=(Pool(),))
    thread.start()
    assert worked.wait(10)
    runtime.draining.set()
    thread.join()


def test_work_that_ends_in_an_error_nobody_foresaw_is_logged_and_its_slot_is_free_again(
    bench: JobBench, runtime: Runtime
) -> None:
    bench.submit()
    runtime.settings = runtime.settings.model_copy(update={"poll_seconds": 0.05})
    worked = threading.Event()
    errors = [ZeroDivisionError()]

    def work() -> bool:
        if errors:
            raise errors.pop()
        worked.set()
        return False

    pool = Pool()
    pool.refusals = 0
    poller = Poller(runtime, kind=WorkerKind.GENERATION, slots=1, work=work)
    thread = threading.Thread(target=poller.run, args=(pool,))
    with capture_logs() as logs:
        thread.start()
        assert worked.wait(10)
        runtime.draining.set()
        thread.join()
    assert "work_failed_unexpectedly" in {log["event"] for log in logs}
