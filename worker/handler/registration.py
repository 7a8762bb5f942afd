"""Registration: a base model's source → fetched, checked, loaded once → what it is."""

from core.domain.errors import HubUnavailable, ModelUnusable
from core.domain.outcome import Outcome
from worker.runner import Run
from worker.runtime import Runtime


def handle(run: Run, runtime: Runtime) -> Outcome:
    """Find out whether the base model can be used here, and what the rest of the system must know of it.

    Raises:
        ModelUnusable, OutOfMemory, JobFailure: it cannot be used.
        JobStopped: the run was asked to stop.
        Unavailable: the object store is not reachable.
    """
    count = 0

    def on_file() -> None:
        nonlocal count
        count += 1

    def at_work() -> None:
        run.report(step=0, steps=1, message=f"fetching file {count}" if count else "checking")

    at_work()
    try:
        facts = runtime.engine.inspect(run.model, on_file=on_file, at_work=at_work, should_stop=run.should_stop)
    except HubUnavailable as error:  # from here it may never be reachable: somebody should know, who can ask again
        raise ModelUnusable(error.message) from error
    return Outcome(model_facts=facts)
