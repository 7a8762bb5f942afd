"""What a run came to, as figures, as JSON and as a page."""

import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from chaos.oracle import Findings
from chaos.transition import Transition
from core.domain.job import TERMINAL

_MOST_BLAMED_SHARE, _FEW_BLAMED = 0.05, 3


@dataclass(frozen=True)
class Death:
    """A process of ours was found dead."""

    at: datetime
    name: str
    pid: int


@dataclass(frozen=True, kw_only=True)
class Report:
    """`planned` is how often each fault was to come, `faults` how often it happened.

    `cancels` are those that were asked for while the job was open, `stopped` is how those ended that ran then; there
    have to be `least_accepted` jobs and `least_cancels`. `datasets` are those that clients were told of.
    `recovery_seconds` are from a worker's death until each job that it held runs again. `blamed` are innocents that
    were taken for poison. `without` is the part of the design that was left out, and `noticed` how often a promise was
    broken that this part keeps.
    """

    command: str
    commit: str
    seed: int
    seconds: float
    machine: Mapping[str, Any]
    planned: Mapping[str, int]
    faults: Mapping[str, int]
    deaths: Mapping[str, int]
    accepted: int
    cancels: int
    stopped: Mapping[str, int]
    datasets: int
    ended: Mapping[str, int]
    crashes_of_a_job: Mapping[int, int]
    refused_stale: int
    answers: Mapping[str, int]
    recovery_seconds: Mapping[str, float]
    wasted_share: float
    blamed: int
    broken: Mapping[str, int]
    how: Sequence[str]
    without: str | None = None
    noticed: int = 0
    least_accepted: int = 0
    least_cancels: int = 0

    @property
    def is_clean(self) -> bool:
        """Whether every promise was kept, while all that was planned happened to as many jobs as it was to."""
        is_much = self.accepted >= self.least_accepted and self.cancels >= self.least_cancels
        is_fair = self.blamed <= self.most_blamed and self.is_heard
        return not any(self.broken.values()) and not self.missing and is_much and is_fair

    @property
    def is_heard(self) -> bool:
        """Whether most of those that were asked to stop at work did; each may be at its end just then."""
        return 2 * self.stopped.get("canceled", 0) >= sum(self.stopped.values())

    @property
    def is_as_meant(self) -> bool:
        """Whether it is clean or, where a part of the design was left out, whether it was noticed by its own signs."""
        return self.is_clean if self.without is None else self.noticed > 0

    @property
    def most_blamed(self) -> int:
        """So many innocents may be taken for poison where workers are killed as often as here."""
        return max(_FEW_BLAMED, int(_MOST_BLAMED_SHARE * self.accepted))

    @property
    def missing(self) -> dict[str, int]:
        """How much less often than planned a fault happened; without those that happened."""
        found = {name: count - self.faults.get(name, 0) for name, count in self.planned.items()}
        return {name: count for name, count in found.items() if count > 0}


def recoveries(findings: Findings, deaths: Sequence[Death]) -> list[float]:
    """Seconds from each death until a job that was held there was claimed again.

    A worker that gave a job back, or lost it frozen, may die too, but not in between its claim and the job's return.
    """
    found = []
    for course in findings.transitions.values():
        for claim, back, again in zip(course, course[1:], course[2:], strict=False):
            if (claim.after, back.after, again.after) == ("running", "queued", "running"):
                pid = _pid_of(back.worker_id)
                died = [death.at for death in deaths if death.pid == pid and claim.at <= death.at <= back.at]
                found += [(again.at - at).total_seconds() for at in died]
    return found


def _pid_of(worker_id: str | None) -> int:
    """A worker's id holds its process's."""
    parts = (worker_id or "").split(":")
    return int(parts[-2]) if len(parts) >= 3 and parts[-2].isdigit() else 0


def wasted_share(transitions: Mapping[UUID, Sequence[Transition]]) -> float:
    """Seconds of runs that ended no job ÷ seconds of all runs."""
    total = wasted = 0.0
    for course in transitions.values():
        for began, ended in itertools.pairwise(course):
            if began.after == "running":
                seconds = (ended.at - began.at).total_seconds()
                total += seconds
                wasted += seconds if ended.after not in TERMINAL else 0.0
    return wasted / total if total else 0.0


def answers_of(journal: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """How often clients got what: accepted, a status, no answer."""
    said = (entry.get("status") or entry["event"] for entry in journal)
    return dict(sorted(Counter(str(each) for each in said).items()))


def lines_of(report: Report) -> Iterator[str]:
    """The report as Markdown."""
    yield f"`{report.command}`, seed {report.seed}, {report.seconds:.0f} s, on {report.machine.get('cpu', 'a machine')}"
    yield f"({report.machine.get('cores', '?')} cores), commit {report.commit}.\n"
    planned, happened = sum(report.planned.values()), sum(report.faults.values())
    yield f"**{happened} of {planned} faults, {report.accepted} accepted jobs.**\n"
    if report.without:
        yield f"**Without {report.without}, {report.noticed} times what it is there for was broken.**\n"
    if report.missing:
        yield f"**Not shown, for it happened less often than planned: {', '.join(report.missing)}.**\n"
    yield "| promise | broken |\n|---|---|"
    for promise, count in report.broken.items():
        yield f"| {promise} | {count} |"
    ended = ", ".join(f"{count} {status}" for status, count in report.ended.items())
    yield f"\nJobs ended: {ended}. Completions of runs that had lost their claim, refused: {report.refused_stale}."
    stopped = ", ".join(f"{count} {status}" for status, count in report.stopped.items())
    yield f"Cancels asked for while the job was open: {report.cancels}; of those that ran then: {stopped or 0}."
    yield f"Datasets uploaded: {report.datasets}."
    yield f"Innocents whose workers were killed until they were taken for poison: {report.blamed}, at most"
    yield f"{report.most_blamed} may be."
    crashes = ", ".join(f"{times} times: {jobs}" for times, jobs in report.crashes_of_a_job.items())
    yield f"Runs of a job whose worker died, by job: {crashes}."
    seconds = report.recovery_seconds
    if seconds["count"]:
        yield f"A job runs again {seconds['p50']:.1f} s (p50), {seconds['p99']:.1f} s (p99) after its worker's death."
    yield f"Share of the working time that was lost: {report.wasted_share:.1%}.\n"
    yield "| fault | planned | happened |\n|---|---|---|"
    for fault, count in sorted(report.planned.items()):
        yield f"| {fault} | {count} | {report.faults.get(fault, 0)} |"
    yield "\n| processes of ours that died | |\n|---|---|"
    for name, count in sorted(report.deaths.items()):
        yield f"| {name} | {count} |"
    yield "\n| answers to clients | |\n|---|---|"
    for answer, count in report.answers.items():
        yield f"| {answer} | {count} |"
    for how in report.how:
        yield f"\n- {how}"


def write(report: Report, path: Path) -> None:
    """`path`.json and `path`.md."""
    keep(path, figures=vars(report), lines=lines_of(report))


def keep(path: Path, *, figures: Mapping[str, Any], lines: Iterable[str]) -> None:
    """`path`.json and `path`.md of any run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".json").write_text(json.dumps(figures, indent=1) + "\n")
    path.with_suffix(".md").write_text("\n".join(lines) + "\n")
