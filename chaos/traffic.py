"""The clients: they submit jobs and datasets, send again what got no answer, cancel, look, and write down all answers.

They do what docs ask of a client: an Idempotency-Key for each request, and after no answer, 429 or 503 the same again.
"""

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any
from uuid import UUID

import httpx2 as httpx

from chaos.journal import Journal
from chaos.lesson import draw_circles
from chaos.patience import set_on_error
from cli.client import TERMINAL

PATIENCE_SECONDS = 300.0
TRY_SECONDS = 15.0
_PAUSE_SECONDS = (0.1, 0.5)
_WATCH_SECONDS = (0.3, 0.8)
_CANCELED, _WATCHED, _DOUBLED, _UPLOADED = 0.4, 0.2, 0.1, 0.1
_CANCEL_WITHIN_SECONDS = 1.5  # about as long as a job is open on an idle machine
_LONG = 40  # steps: a job that is long enough to be cancelled at work
_OVERTIME_PAUSE = 4  # times as long between two jobs: who waits for a last fault needs some, and no growing queue
_COLOURS, _SHAPES = ("red", "blue", "green", "yellow"), ("star", "heart", "circle", "square")


@dataclass(frozen=True)
class Load:
    """How much: `jobs` over `seconds`, and on at a slower pace where it takes longer; by so many clients at once."""

    jobs: int
    seconds: float
    clients: int = 32


class Traffic:
    """All clients of a run. `journal` gets an entry for each thing that they were told."""

    def __init__(
        self,
        apis: Sequence[str],
        key: str,
        journal: Journal,
        *,
        seed: int,
        keeps_connections: bool = True,
        cancels: bool = True,
    ) -> None:
        self._apis, self._journal, self._seed, self._cancels = apis, journal, seed, cancels
        self._given_up = threading.Event()
        self._http = httpx.Client(
            headers={"Authorization": f"Bearer {key}"} | ({} if keeps_connections else {"Connection": "close"}),
            timeout=TRY_SECONDS,
            trust_env=False,
            limits=httpx.Limits(max_connections=200, max_keepalive_connections=50),
        )

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()

    @contextmanager
    def flowing(
        self, load: Load, *, is_endless: bool = False, lesson: Mapping[str, Any] | None = None
    ) -> Iterator[None]:
        """Submit for as long as the block runs and, unless that `is_endless`, until `load.jobs` were submitted.

        With a `lesson` there is a training to disturb, too, at all times: one after the other.
        """
        with ThreadPoolExecutor(load.clients, thread_name_prefix="client") as pool, set_on_error(self._given_up):
            enough, stopped = threading.Event(), threading.Event()
            source = pool.submit(self._emit, pool, load, enough, stopped)
            teacher = pool.submit(self._teach, lesson, stopped) if lesson else None
            try:
                yield
                if not is_endless:
                    enough.wait()
            finally:
                stopped.set()
            source.result()
            if teacher:
                teacher.result()

    def _teach(self, lesson: Mapping[str, Any], stopped: threading.Event) -> None:
        for number in itertools.count():
            random = Random(f"{self._seed}/lesson {number}")
            key = str(UUID(int=random.getrandbits(128), version=4))
            request = {**lesson, "seed": number}
            job = self._call("POST", "/api/fine-tune", random, json=request, headers={"Idempotency-Key": key})
            if job is None:
                return
            self._journal.write(event="accepted", job_id=job["id"], key=key)
            while job is not None and job["status"] not in TERMINAL:
                if stopped.wait(_PAUSE_SECONDS[1]):
                    return
                job = self._call("GET", f"/api/jobs/{job['id']}", random)

    def _emit(self, pool: ThreadPoolExecutor, load: Load, enough: threading.Event, stopped: threading.Event) -> None:
        began, errands = time.monotonic(), list[Future[None]]()
        for number in itertools.count():
            if number == load.jobs:
                enough.set()
            late = max(0, number - load.jobs)
            due = began + load.seconds * (number + late * (_OVERTIME_PAUSE - 1)) / load.jobs
            if stopped.wait(max(0.0, due - time.monotonic())):
                break
            errands.append(pool.submit(self._serve_one, number))
        for errand in errands:
            errand.result()

    def _serve_one(self, number: int) -> None:
        random = Random(f"{self._seed}/{number}")
        request, key = make_request(random), str(UUID(int=random.getrandbits(128), version=4))
        job = self._submit(request, key, random)
        if job is None:
            return
        if random.random() < _DOUBLED:
            again = self._submit(request, key, random)
            if again is not None and again["id"] != job["id"]:
                self._journal.write(event="violation", what="one key gave two jobs", key=key)
        if random.random() < _UPLOADED:
            self._upload(number, random)
        if self._cancels and random.random() < _CANCELED:
            if request["steps"] == _LONG:
                self._await_start(job["id"], random)
            else:
                time.sleep(random.uniform(0.0, _CANCEL_WITHIN_SECONDS))
            self._cancel(job["id"], random)
        elif random.random() < _WATCHED:
            self._watch(job["id"], random)

    def _submit(self, request: Mapping[str, Any], key: str, random: Random) -> dict[str, Any] | None:
        job = self._call("POST", "/api/generate", random, json=request, headers={"Idempotency-Key": key})
        if job is not None:
            self._journal.write(event="accepted", job_id=job["id"], key=key)
        return job

    def _upload(self, number: int, random: Random) -> None:
        """A dataset of a picture or two, which nobody trains on."""
        pictures = draw_circles(random.randint(1, 2), first=number)
        files = [("images", (picture.name, picture.content)) for picture in pictures]
        captions = [picture.caption for picture in pictures]
        dataset = self._call(
            "POST", "/api/datasets", random, data={"name": f"set {number}", "captions": captions}, files=files
        )
        if dataset is not None:
            self._journal.write(event="uploaded", dataset_id=dataset["id"])

    def _cancel(self, job_id: str, random: Random) -> None:
        """Written down where it was asked in time: the job was still open."""
        job = self._call("POST", f"/api/jobs/{job_id}/cancel", random)
        if job is not None and job["status"] in ("canceling", "canceled"):
            self._journal.write(event="canceled", job_id=job_id, status=job["status"])

    def _await_start(self, job_id: str, random: Random) -> None:
        for job in self._looks(job_id, random, pause=_PAUSE_SECONDS):
            if job["status"] != "queued":
                return

    def _watch(self, job_id: str, random: Random) -> None:
        """Look until the job has ended, and some times more: what ended stays as it is."""
        ended, looks = None, 0
        for job in self._looks(job_id, random, pause=_WATCH_SECONDS):
            if ended is not None and job["status"] != ended:
                self._journal.write(event="violation", what=f"{job_id} was {ended}, then {job['status']}")
            if job["status"] in TERMINAL:
                ended, looks = job["status"], looks + 1
            if looks == 3:
                return

    def _looks(self, job_id: str, random: Random, *, pause: tuple[float, float]) -> Iterator[dict[str, Any]]:
        """The job as it is, again and again, for as long as clients are patient."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline and not self._given_up.is_set():
            job = self._call("GET", f"/api/jobs/{job_id}", random)
            if job is None:
                return
            yield job
            time.sleep(random.uniform(*pause))

    def _call(self, method: str, path: str, random: Random, **content: Any) -> dict[str, Any] | None:
        """What was answered; None where it was a refusal, or, which is a violation, where there never was an answer."""
        answer = until_settled(
            lambda api: self._http.request(method, api + path, **content), self._apis, random, note=self._journal.write
        )
        if answer is None:
            self._journal.write(event="violation", what=f"{method} {path}: no answer in {PATIENCE_SECONDS:.0f} s")
        return dict(answer.json()) if answer is not None and answer.is_success else None


def until_settled(
    send: Callable[[str], httpx.Response],
    apis: Sequence[str],
    random: Random,
    *,
    note: Callable[..., None],
) -> httpx.Response | None:
    """Ask one API or another until the answer settles it, as docs tell a client to; None where that never comes.

    `note` is told of every try that was in vain, and of every refusal.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        pause = random.uniform(*_PAUSE_SECONDS)
        try:
            answer = send(random.choice(apis))
        except httpx.TransportError as error:
            note(event="no answer", why=type(error).__name__)
            time.sleep(pause)
            continue
        if answer.is_success:
            return answer
        note(event="refused", status=answer.status_code, method=answer.request.method, body=answer.text[:500])
        if answer.status_code not in (429, 503):
            return answer
        time.sleep(float(answer.headers["Retry-After"]) + pause)
    return None


def make_request(random: Random) -> dict[str, Any]:
    """A small picture or two; a few steps, sometimes many."""
    return {
        "prompt": f"a {random.choice(_COLOURS)} {random.choice(_SHAPES)}",
        "seed": random.getrandbits(31),
        "steps": random.choice((2, 4, 8, _LONG)),
        "num_images": random.choice((1, 1, 2)),
    }
