import os
import signal

from cli.interruption import Stopped, stoppable, undisturbed


def test_the_first_signal_ends_the_block_and_is_no_error() -> None:
    reached = False
    with stoppable():
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()
        reached = True
    assert not reached


def test_tidying_up_is_not_disturbed() -> None:
    steps = []
    with stoppable():
        try:
            os.kill(os.getpid(), signal.SIGINT)
            signal.pause()
        finally:
            with undisturbed():
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGTERM)
                steps.append("tidy")
    assert steps == ["tidy"]


def test_only_ctrl_c_hurries_who_tidies_up() -> None:
    with undisturbed() as hurry:
        for number in (signal.SIGTERM, signal.SIGHUP):
            os.kill(os.getpid(), number)
        assert not hurry.is_set(), "two of these may come of one request"
        os.kill(os.getpid(), signal.SIGINT)
        assert hurry.is_set()


def test_signals_mean_afterwards_what_they_meant_before() -> None:
    before = signal.getsignal(signal.SIGINT)
    with stoppable():
        raise Stopped
    assert signal.getsignal(signal.SIGINT) is before
