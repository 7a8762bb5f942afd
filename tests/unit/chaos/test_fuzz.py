"""What a fuzz run complains of: each thing by itself is enough."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from chaos.fuzz import complain
from chaos.fuzz_round import skipped
from chaos.report import Death
from chaos.tally import Tally

CLEAN = Tally({(("GET", "/a"), 200): 3, (("GET", "/a"), 404): 2})
PHASES = ("coverage", "fuzzing", "stateful")


def complaints(tally: Tally = CLEAN, *, died: str = "", logged: Mapping[str, Any] | None = None) -> list[str]:
    deaths = [Death(datetime(2026, 1, 1, tzinfo=UTC), died, 7)] if died else []
    return list(complain(tally, deaths=deaths, log=[logged] if logged else []))


def test_a_clean_run_is_nothing_to_complain_of() -> None:
    assert complaints(logged={"event": "answered", "level": "info", "status": 404}) == []


def test_an_answer_that_says_that_the_fault_is_here() -> None:
    for status in (0, 500, 503):
        [complaint] = complaints(Tally({**CLEAN.answers, (("GET", "/a"), status): 1}))
        assert complaint.startswith("1 ")


def test_a_program_that_was_started_again_is_said_by_its_name() -> None:
    for name in ("api-0", "worker-0", "trainer-0", "upkeep-0"):
        [complaint] = complaints(died=name)
        assert name in complaint


def test_an_error_in_a_log_that_no_answer_showed() -> None:
    [complaint] = complaints(logged={"event": "work_failed_unexpectedly", "level": "error", "exception": "oh"})
    assert "work_failed_unexpectedly" in complaint


def test_a_phase_that_asked_nothing() -> None:
    assert list(skipped(report())) == []
    for name in PHASES:
        [complaint] = skipped(report(**{name: "skip"}))
        assert name in complaint


def report(**changed: str) -> dict[str, Any]:
    statuses = dict.fromkeys(PHASES, "success") | changed
    return {"seed": 1, "phases": {name: {"status": each, "skip_reason": None} for name, each in statuses.items()}}
