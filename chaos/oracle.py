"""Looks at Postgres, the object store and the clients' journal, and says every promise that was broken."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

from chaos.poison import ENDS
from chaos.transition import Transition, cancels, read
from core.domain.dataset import DatasetStatus
from core.domain.errors import NotFound
from core.domain.job import POISONED, TERMINAL, TRANSITIONS, JobStatus
from core.infra.object_store import ObjectStore

Row = dict[str, Any]
Entry = Mapping[str, Any]


@dataclass(frozen=True)
class Broken:
    """A promise that was not kept: which one, and how."""

    promise: str
    how: str


PROMISES = (
    "lost: accepted, and never ended",
    "duplicated: ended more than once, or with more than one set of results",
    "stale: a result of a run that was not the last",
    "changed: a job that had ended went on",
    "incomplete: a result or a dataset without its file, or with another file",
    "crossed: cancelled with results, or succeeded without",
    "spared: what kills its workers was not taken for poison",
    "failed: did not succeed, though nothing was wrong with it",
    "charged: an attempt was counted, though nothing was wrong with it",
    "unlawful: a change of state that does not exist",
    "500: the API answered with an error of its own",
    "broken word: clients were told what does not fit",
)
LOST, DUPLICATED, STALE, CHANGED, INCOMPLETE, CROSSED, SPARED, FAILED, CHARGED, UNLAWFUL, ERROR_500, BROKEN_WORD = (
    PROMISES
)

_OF_A_LOST_JOB = ("kind", "status", "cancel_requested", "claim_epoch", "crash_count", "interrupt_count", "run_after")
_OF_CLIENTS = ("generation", "training")
_DEAF_AFTER = timedelta(seconds=15)  # a heartbeat, a step, and a put to a store that is silent
_IMAGES = """
    SELECT dataset_image.object_key, dataset_image.sha256
    FROM dataset_image JOIN dataset ON dataset.id = dataset_id WHERE status = 'ready'
"""


@dataclass(frozen=True)
class Findings:
    """What a run came to: every job's row, how it got there, how those ended that were to stop, what was broken."""

    jobs: Sequence[Row]
    transitions: Mapping[UUID, Sequence[Transition]]
    broken: Sequence[Broken]
    stopped: Mapping[str, int]

    @property
    def blamed(self) -> int:
        """Innocent jobs that were taken for poison: their workers were killed by us, again and again."""
        return sum(job["error_code"] == POISONED and job["plan"].get("prompt") not in ENDS for job in self.jobs)

    def count(self) -> dict[str, int]:
        """How often each promise was broken; zeros too."""
        found = Counter(each.promise for each in self.broken)
        return {promise: found[promise] for promise in PROMISES}


def examine(
    connection: "psycopg.Connection[Any]",
    store: ObjectStore,
    journal: Sequence[Entry],
    *,
    api_log: Iterable[Entry] = (),
) -> Findings:
    """Every promise, once the system was left alone for long enough. `api_log` is all that the API ever logged."""
    jobs = _rows(connection, "SELECT * FROM job ORDER BY created_at")
    artifacts = _rows(connection, "SELECT * FROM artifact")
    adapters = _rows(connection, "SELECT * FROM adapter WHERE job_id IS NOT NULL")
    datasets = _rows(connection, "SELECT * FROM dataset")
    images = _rows(connection, _IMAGES)
    to_stop = cancels(connection)
    transitions: dict[UUID, list[Transition]] = defaultdict(list)
    for each in read(connection):
        transitions[each.job_id].append(each)
    broken = [
        *_of_journal(jobs, journal),
        *own_errors(journal, api_log),
        *(each for job_id, course in transitions.items() for each in _of_course(job_id, course)),
        *_of_ends(jobs),
        *_of_cancels(jobs, to_stop),
        *_of_results(jobs, artifacts),
        *_of_adapters(jobs, adapters, artifacts),
        *_of_datasets(datasets, journal),
        *_of_files([*artifacts, *images], store),
    ]
    return Findings(jobs, transitions, broken, Counter(job["status"] for job in jobs if job["id"] in to_stop))


def _rows(connection: "psycopg.Connection[Any]", query: str) -> list[Row]:
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query).fetchall()


def _of_journal(jobs: Sequence[Row], journal: Sequence[Entry]) -> Iterator[Broken]:
    """What the clients were told, against what is there."""
    row = {str(job["id"]): job for job in jobs}
    yield from _of_accepted(row, journal)
    for entry in journal:
        match entry:
            case {"event": "canceled", "job_id": job_id, "status": "canceled"} if not _is_canceled(row.get(job_id)):
                yield Broken(BROKEN_WORD, f"{job_id} was canceled, the client was told: {_standing(row.get(job_id))}")
            case {"event": "violation", "what": what}:
                yield Broken(BROKEN_WORD, what)
            case {"event": "refused", "status": int(code)} if code not in (429, 503) and not _is_own_error(code):
                yield Broken(BROKEN_WORD, f"{code}: {entry['body']}")


def _of_accepted(row: Mapping[str, Row], journal: Sequence[Entry]) -> Iterator[Broken]:
    """Each key that was accepted gave one job, which ended; clients have no other."""
    by_key: dict[str, set[str]] = defaultdict(set)
    for entry in journal:
        if entry["event"] == "accepted":
            by_key[entry["key"]].add(entry["job_id"])
    for key, job_ids in by_key.items():
        if len(job_ids) > 1:
            yield Broken(DUPLICATED, f"the key {key} gave {sorted(job_ids)}")
        for job_id in job_ids:
            job = row.get(job_id)
            if job is None or job["status"] not in TERMINAL:
                yield Broken(LOST, f"{job_id}: {_standing(job)}")
    known = {job_id for job_ids in by_key.values() for job_id in job_ids}
    for job_id, job in row.items():
        if job["kind"] in _OF_CLIENTS and job_id not in known:
            yield Broken(DUPLICATED, f"{job_id} is nobody's: its client was told of another job, or of none")


def _is_canceled(job: Row | None) -> bool:
    return job is not None and job["status"] == JobStatus.CANCELED


def own_errors(journal: Iterable[Entry], api_log: Iterable[Entry]) -> Iterator[Broken]:
    """Answers that say that the fault is the API's, by who was told and by the API's log, and errors logged there."""
    for entry in journal:
        if _is_own_error(entry.get("status")):
            yield Broken(ERROR_500, f"{entry['status']}: {entry.get('body')}")
    for entry in api_log:
        if _is_own_error(entry.get("status")):
            yield Broken(ERROR_500, f"{entry['status']}: {entry.get('method')} {entry.get('route')}, says the API")
        if entry.get("level") in ("error", "critical"):
            yield Broken(ERROR_500, f"{entry.get('event')}: {str(entry.get('exception'))[-500:]}")


def _is_own_error(status: object) -> bool:
    return isinstance(status, int) and status >= 500 and status != 503


def _standing(job: Row | None) -> str:
    return "gone" if job is None else ", ".join(f"{name} {job[name]}" for name in _OF_A_LOST_JOB)


def _of_course(job_id: UUID, course: Sequence[Transition]) -> Iterator[Broken]:
    """How a job went, change by change."""
    ends = [each for each in course if each.after in TERMINAL and each.after != each.before]
    if len(ends) > 1:
        yield Broken(DUPLICATED, f"{job_id} ended {len(ends)} times")
    for each in course:
        if each.before is None:
            continue
        before, after = JobStatus(each.before), JobStatus(each.after)
        if before in TERMINAL:
            yield Broken(CHANGED, f"{job_id}: {before} → {after}")
        elif after not in TRANSITIONS[before]:
            yield Broken(UNLAWFUL, f"{job_id}: {before} → {after}")
    epochs = [each.epoch for each in course]
    if epochs != sorted(epochs):
        yield Broken(UNLAWFUL, f"{job_id}: its epochs were {epochs}")


def _of_ends(jobs: Sequence[Row]) -> Iterator[Broken]:
    """What was meant to fail failed as it was meant to, and nothing else failed but what was taken for poison."""
    for job in jobs:
        code, meant = job["error_code"], ENDS.get(job["plan"].get("prompt"))
        if meant and code != meant:
            yield Broken(SPARED, f"{job['id']} is {job['status']} ({code}), and should have failed as {meant}")
        elif not meant and job["status"] in (JobStatus.FAILED, JobStatus.EXPIRED) and code != POISONED:
            yield Broken(FAILED, f"{job['id']}: {code}, {job['error_message']}")
        if not meant and job["attempt"] > 0:
            yield Broken(CHARGED, f"{job['id']}: {job['attempt']} attempts; it is {job['status']}")


def _of_cancels(jobs: Sequence[Row], to_stop: Mapping[UUID, datetime]) -> Iterator[Broken]:
    """What was asked to stop while it ran may end as it would have, if that is soon."""
    for job in jobs:
        asked, ended = to_stop.get(job["id"]), job["completed_at"]
        if asked and ended and not _is_canceled(job) and ended - asked > _DEAF_AFTER:
            yield Broken(BROKEN_WORD, f"{job['id']} was to stop, and is {job['status']} {ended - asked} later")


def _of_results(jobs: Sequence[Row], artifacts: Sequence[Row]) -> Iterator[Broken]:
    """Each succeeded job has one set of results, of its last run; every other job has none."""
    of_job: dict[UUID, list[Row]] = defaultdict(list)
    for artifact in artifacts:
        of_job[artifact["job_id"]].append(artifact)
    for job in jobs:
        found = of_job[job["id"]]
        if any(artifact["claim_epoch"] != job["claim_epoch"] for artifact in found):
            yield Broken(STALE, f"{job['id']} is of epoch {job['claim_epoch']}")
        if found and job["status"] != JobStatus.SUCCEEDED:
            yield Broken(CROSSED, f"{job['id']} is {job['status']}, with {len(found)} results")
        if any(artifact["created_at"] != job["completed_at"] for artifact in found):
            yield Broken(CHANGED, f"{job['id']} got a result by another transaction than its end")
        if job["kind"] == "generation" and job["status"] == JobStatus.SUCCEEDED:
            wanted = job["plan"]["num_images"]
            if len(found) < wanted:
                yield Broken(CROSSED, f"{job['id']} succeeded with {len(found)} of {wanted} pictures")
            elif len(found) > wanted:
                yield Broken(DUPLICATED, f"{job['id']} has {len(found)} pictures of {wanted}")


def _of_adapters(jobs: Sequence[Row], adapters: Sequence[Row], artifacts: Sequence[Row]) -> Iterator[Broken]:
    """Each training that succeeded has one adapter, which is one of its results; every other has none."""
    results = {(each["job_id"], each["object_key"], each["sha256"]) for each in artifacts}
    made = Counter(each["job_id"] for each in adapters)
    for adapter in adapters:
        if (adapter["job_id"], adapter["object_key"], adapter["sha256"]) not in results:
            yield Broken(INCOMPLETE, f"the adapter of {adapter['job_id']} is none of its results")
    for job in jobs:
        if job["kind"] == "training" and made[job["id"]] != (job["status"] == JobStatus.SUCCEEDED):
            yield Broken(CROSSED, f"{job['id']} is {job['status']}, with {made[job['id']]} adapters")


def _of_datasets(datasets: Sequence[Row], journal: Sequence[Entry]) -> Iterator[Broken]:
    """Each dataset that a client was told of is there, and ready."""
    status = {str(dataset["id"]): dataset["status"] for dataset in datasets}
    for entry in journal:
        match entry:
            case {"event": "uploaded", "dataset_id": dataset_id} if status.get(dataset_id) != DatasetStatus.READY:
                yield Broken(LOST, f"dataset {dataset_id}: {status.get(dataset_id, 'gone')}")


def _of_files(rows: Sequence[Row], store: ObjectStore) -> Iterator[Broken]:
    """Each file that a row names, a result's or a picture's of a dataset, is there, and is the one that was made."""
    for row in rows:
        try:
            content = store.get(row["object_key"])
        except NotFound:
            yield Broken(INCOMPLETE, f"{row['object_key']} is gone")
            continue
        if hashlib.sha256(content).hexdigest() != row["sha256"]:
            yield Broken(INCOMPLETE, f"{row['object_key']} is another file")
