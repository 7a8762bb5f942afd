"""Ctrl-C, SIGTERM and a closed terminal: they end a command once, and never disturb its tidying up."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(BaseException):
    """Somebody asked the command to end."""


@contextmanager
def stoppable() -> Iterator[None]:
    """Run the block until it ends or somebody asks for its end, which is then no error."""
    try:
        with _answering(_SIGNALS, _stop):
            yield
    except Stopped:
        pass


@contextmanager
def undisturbed() -> Iterator[threading.Event]:
    """Run the block to its end, whoever asks; the event is set when that is by Ctrl-C, which is meant each time.

    Of the other signals two may come of one request: from whoever asks, and from a parent that was asked, too.
    """
    hurry = threading.Event()
    with _answering(_SIGNALS, signal.SIG_IGN), _answering((signal.SIGINT,), lambda *_: hurry.set()):
        yield hurry


def _stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  # the signature of a signal handler
    raise Stopped


@contextmanager
def _answering(numbers: tuple[signal.Signals, ...], handler: "signal._HANDLER") -> Iterator[None]:
    # A command begun with nohup goes on when its terminal closes.
    heard = [n for n in numbers if n is not signal.SIGHUP or signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in heard}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
