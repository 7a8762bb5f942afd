"""One picture in the making: diffusers' own call of a pipeline, paused wherever it asks a network."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from greenlet import getcurrent, greenlet

from worker.engine.question import Question


class Picture:
    """Runs `paint` in a coroutine of its own, from one question to the next.

    All pictures of an engine run in its one thread, and share pipelines' parts but not pipelines. `question` is what
    it waits for, None once it has ended; then `result` is what `paint` returned, or `error` what it raised.
    """

    def __init__(self, paint: Callable[[], Any]) -> None:
        self.question: Question | None = None
        self.result: Any = None
        self.error: BaseException | None = None
        self._coroutine = greenlet(paint)
        self._resume(self._coroutine.switch)

    def answer(self, value: Any) -> None:
        """Let it go on with what the network said."""
        self._resume(self._coroutine.switch, value)

    def fail(self, error: BaseException) -> None:
        """Let its question raise."""
        self._resume(self._coroutine.throw, error)

    def _resume(self, go_on: Callable[..., Any], *given: Any) -> None:
        self.question = None
        try:
            found = go_on(*given)
        except BaseException as error:  # noqa: BLE001  # it belongs to this picture alone
            self.error = error
        else:
            if self._coroutine.dead:
                self.result = found
            else:
                self.question = found


class Relay:
    """Stands in for a network inside a pipeline: calls of these `methods` become questions of the picture that runs.

    Options that are `ignored` change nothing, and would keep pictures from sharing a call.
    """

    def __init__(
        self, network: Any, name: str, *, methods: Sequence[str] = ("__call__",), ignored: Sequence[str] = ()
    ) -> None:
        self._network, self._ignored = network, ignored
        self._asked = {method: name if method == "__call__" else f"{name}.{method}" for method in methods}

    def __getattr__(self, name: str) -> Any:
        return partial(self._ask, self._asked[name]) if name in self._asked else getattr(self._network, name)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self._ask(self._asked["__call__"], *arguments, **options)

    def _ask(self, network: str, *arguments: Any, **options: Any) -> Any:
        engine = getcurrent().parent
        assert engine is not None, "only a picture asks"
        kept = {name: value for name, value in options.items() if name not in self._ignored}
        return engine.switch(Question(network, arguments, kept))
