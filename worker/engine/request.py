"""A request: its images as they end, and the future that waits for all of them."""

from collections.abc import Callable
from concurrent.futures import Future

from core.domain.errors import JobFailure, JobStopped, OutOfMemory
from core.domain.generation import GenerationPlan
from worker.engine.adapter_mix import Mix
from worker.engine.loaded_model import Drawn
from worker.engine.picture import Picture
from worker.engine.pipeline import is_out_of_memory


class Request:
    """A plan that a tenant asked for. It fails with the first of its images that does; then the others stop."""

    def __init__(self, plan: GenerationPlan, mix: Mix, tenant: str, should_stop: Callable[[], bool]) -> None:
        self.plan, self.mix, self.tenant = plan, mix, tenant
        self.future: Future[list[Drawn]] = Future()
        self._asked_to_stop = should_stop
        self._error: BaseException | None = None
        self._images: dict[int, Drawn] = {}
        self._left = plan.num_images

    def should_stop(self) -> bool:
        """Whether its images are of no use any more."""
        return self._error is not None or self._asked_to_stop()

    def taker_of(self, index: int) -> Callable[[Picture], None]:
        """What takes image `index` once its picture has ended."""

        def take(picture: Picture) -> None:
            self._left -= 1
            if picture.error is None:
                self._images[index] = picture.result
            elif self._error is None:
                self._error = translated(picture.error)
            if self._left == 0:
                self._settle()

        return take

    def _settle(self) -> None:
        if self._error is not None:
            self.future.set_exception(self._error)
        else:
            self.future.set_result([self._images[index] for index in sorted(self._images)])


def translated(error: BaseException) -> BaseException:
    """The error as those know it who asked: one of the error tree where it says that memory ran out."""
    if is_out_of_memory(error) and not isinstance(error, JobFailure | JobStopped):
        return OutOfMemory("The device has not enough memory for this request; ask for a smaller image.")
    return error
