"""The report's figures, from courses made by hand."""

import json
from collections import Counter
from dataclasses import MISSING, fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from chaos.mutation import Part, noticed
from chaos.oracle import ERROR_500, LOST, PROMISES, UNLAWFUL, Broken, Findings
from chaos.poison import SEGFAULT
from chaos.report import Death, Report, lines_of, recoveries, wasted_share, write
from chaos.run import ending_of
from chaos.transition import Transition

JOB = uuid4()
START = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def course(*steps: tuple[float, str, str | None]) -> dict[UUID, list[Transition]]:
    """(seconds, status, worker) after one another."""
    befores = [None, *(status for _, status, _ in steps)]
    return {
        JOB: [
            Transition(at(seconds), JOB, before, after, 0, worker)
            for before, (seconds, after, worker) in zip(befores, steps, strict=False)
        ]
    }


KILLED = course(
    (0, "queued", None),
    (1, "running", "host:77:a"),
    (8, "queued", "host:77:a"),
    (10, "running", "host:78:b"),
    (13, "succeeded", "host:78:b"),
)


def test_recovery_is_from_the_death_to_the_next_claim() -> None:
    findings = Findings([], KILLED, [], {})
    assert recoveries(findings, [Death(at(4), "worker-0", 77), Death(at(5), "worker-1", 99)]) == [6.0]
    assert recoveries(findings, []) == []


def test_a_job_that_was_given_back_or_lost_before_its_worker_died_did_not_recover_from_that() -> None:
    findings = Findings([], KILLED, [], {})
    assert recoveries(findings, [Death(at(seconds), "worker-0", 77) for seconds in (0.5, 9, 30)]) == []
    assert recoveries(findings, [Death(at(seconds), "worker-0", 77) for seconds in (0.5, 7, 30)]) == [3.0]


def test_wasted_is_what_ended_no_job() -> None:
    assert wasted_share(KILLED) == pytest.approx(0.7)
    assert wasted_share({}) == 0.0


def test_promises_that_were_kept_are_counted_too() -> None:
    counts = Findings([], {}, [Broken(PROMISES[0], "x"), Broken(PROMISES[0], "y")], {}).count()
    assert list(counts) == list(PROMISES)
    assert list(counts.values()) == [2] + [0] * (len(PROMISES) - 1)


def test_a_run_that_missed_a_fault_is_not_clean_and_says_so() -> None:
    whole = report(planned={"a": 2, "b": 1}, faults={"a": 2, "b": 1})
    assert whole.is_clean
    assert not replace(whole, broken={PROMISES[0]: 1}).is_clean
    short = replace(whole, faults={"a": 1, "b": 1})
    assert (short.missing, short.is_clean) == ({"a": 1}, False)
    assert "| a | 2 | 1 |" in lines_of(short)
    assert any("2 of 3 faults" in line for line in lines_of(short))
    assert replace(whole, faults={"b": 1}).missing == {"a": 2}


def test_a_run_of_too_few_jobs_or_cancels_is_not_clean() -> None:
    enough = report(accepted=5, cancels=2, least_accepted=5, least_cancels=2)
    assert enough.is_clean
    assert not replace(enough, accepted=4).is_clean
    assert not replace(enough, cancels=1).is_clean


def test_most_of_what_was_to_stop_at_work_has_to() -> None:
    assert report(stopped={"canceled": 2, "succeeded": 2}).is_clean
    assert not report(stopped={"canceled": 2, "succeeded": 3}).is_clean


def test_it_is_written_as_a_page_and_as_figures(tmp_path: Path) -> None:
    ended = {"status": "failed", "error_code": "poisoned"}
    whole = report(
        ended=Counter([ending_of(ended)]), deaths=Counter(["api-0"]), crashes_of_a_job={0: 2, 4: 1}, planned={"a": 1}
    )
    write(whole, tmp_path / "reports" / "full")
    figures = json.loads((tmp_path / "reports" / "full.json").read_text())
    assert (figures["ended"], figures["crashes_of_a_job"]) == ({"failed (poisoned)": 1}, {"0": 2, "4": 1})
    assert (figures["deaths"], figures["planned"]) == ({"api-0": 1}, {"a": 1})
    page = (tmp_path / "reports" / "full.md").read_text()
    assert "1 failed (poisoned)" in page
    assert "| api-0 | 1 |" in page


def test_innocents_may_be_blamed_now_and_then() -> None:
    assert report(accepted=100, blamed=5).is_clean
    assert not report(accepted=100, blamed=6).is_clean
    assert report(accepted=1, blamed=3).is_clean


def test_a_missing_part_has_to_be_noticed_by_what_it_is_there_for() -> None:
    assert not report(without=Part.SWEEP, broken={PROMISES[0]: 1}, noticed=0).is_as_meant
    assert report(without=Part.SWEEP, broken={PROMISES[0]: 1}, noticed=1).is_as_meant
    assert not report(broken={PROMISES[0]: 1}).is_as_meant
    assert report().is_as_meant


@pytest.mark.parametrize(
    ("broken", "part"),
    [
        (Broken(LOST, "x: kind generation, status running, claim_epoch 1"), Part.SWEEP),
        (Broken(LOST, "x: kind generation, status queued, claim_epoch 0"), Part.RING),
        (Broken(UNLAWFUL, "x: queued → succeeded"), Part.FENCE),
        (Broken(ERROR_500, "500: oh"), None),
    ],
)
def test_what_is_broken_says_which_part_is_missing(broken: Broken, part: Part | None) -> None:
    assert [each for each in Part if noticed(each, [broken])] == [part] * (part is not None)


def test_an_innocent_that_is_taken_for_poison_is_counted() -> None:
    jobs = [
        {"error_code": code, "plan": plan}
        for code, plan in [("poisoned", {"prompt": SEGFAULT}), ("poisoned", {"prompt": "a star"}), (None, {})]
    ]
    assert Findings(jobs, {}, [], {}).blamed == 1


def report(**changed: Any) -> Report:
    nothing: dict[str, Any] = {field.name: {} for field in fields(Report) if field.default is MISSING}
    counts: dict[str, Any] = {
        "seed": 1,
        "seconds": 1.0,
        "accepted": 0,
        "cancels": 0,
        "blamed": 0,
        "datasets": 0,
        "refused_stale": 0,
        "wasted_share": 0.0,
    }
    return Report(
        **{**nothing, **counts, "command": "", "commit": "", "recovery_seconds": {"count": 0}, "how": [], **changed}
    )
