"""What the bench of ten times too much calls true, and when it calls a run a miss."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import cast
from uuid import UUID

import pytest

from bench import retry
from bench.overload import TARGETS, tell
from bench.retry import Wait, judged, obey
from bench.tenant import Answer, Client, Tenant

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
TENANT = Tenant(UUID(int=1), "key")


class Script:
    """A client that is answered as it is written, until nothing more is written: then its time is up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: int | None) -> None:
        self._answers, self._now = list(answers), 0.0
        self.slept: list[float] = []
        monkeypatch.setattr(retry, "time", SimpleNamespace(monotonic=lambda: self._now, sleep=self.slept.append))

    def submit(self) -> Answer:
        seconds = self._answers.pop(0)
        if not self._answers:
            self._now = 1e9
        return Answer(202, 1.0, job_id="job") if seconds is None else Answer(429, 1.0, retry_after=seconds)


def obeyed(script: Script) -> list[tuple[int, int]]:
    return [(wait.told, wait.tries) for wait in obey(cast(Client, script), until=1e6)]


def test_who_obeys_waits_exactly_as_long_as_it_was_told_and_counts_its_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(monkeypatch, None, 3, None, 2, 1, None, 5, None, None)
    assert obeyed(script) == [(3, 1), (2, 2), (5, 1)]
    assert script.slept == [3, 2, 1, 5]


def test_a_wait_without_an_end_counts_once_it_is_known_to_be_untrue(monkeypatch: pytest.MonkeyPatch) -> None:
    assert obeyed(Script(monkeypatch, 3, 1)) == [], "the second try is still to come"
    assert obeyed(Script(monkeypatch, 3, 1, 1)) == [(3, 3)]


@pytest.mark.parametrize(
    ("told", "tries", "room_after", "is_true"),
    [
        (4, 1, 3.5, True),
        (4, 2, 5.5, True),
        (4, 3, 8.0, False),
        (600, 1, 4.0, False),
        (4, 1, 0.9, False),
        (4, 1, 1.1, True),
        (1, 1, 0.1, True),
    ],
)
def test_what_is_told_is_true_if_it_is_neither_too_soon_nor_far_too_late(
    told: int, tries: int, room_after: float, is_true: bool
) -> None:
    started = [NOON - timedelta(seconds=1), NOON + timedelta(seconds=room_after), NOON + timedelta(seconds=100)]
    found = judged({TENANT: [Wait(NOON, told, tries)]}, {TENANT: started})
    assert found["retry_after_true"] == float(is_true)
    assert found["retry_after_early_seconds"]["p50"] == pytest.approx(told - room_after)


def test_what_nobody_saw_is_not_true() -> None:
    assert judged({}, {})["retry_after_true"] == 0.0
    never = judged({TENANT: [Wait(NOON, 1, 3)]}, {TENANT: []})
    assert (never["retry_after_true"], never["retry_after_early_seconds"]) == (0.0, {"count": 0})


@pytest.mark.parametrize("missed", [None, *TARGETS])
def test_one_missed_target_is_enough(missed: str | None) -> None:
    worse = {name: target + (1 if at_most else -1) for name, (target, at_most) in TARGETS.items()}
    found = {name: worse[name] if name == missed else target for name, (target, _) in TARGETS.items()}
    assert tell(found) == (missed is None)
