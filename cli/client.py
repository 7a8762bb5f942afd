"""The HTTP client: what the commands say to the API."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx2 as httpx

from cli.refusal import Refusal

TERMINAL = frozenset({"succeeded", "failed", "canceled", "expired"})
Job = dict[str, Any]


@dataclass(frozen=True)
class Picture:
    """One picture of a dataset, encoded, and what it shows."""

    name: str
    content: bytes
    caption: str


class Client:
    """Speaks to one API with one key. Every method raises `Refusal` with the API's own words when it declines."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url.rstrip("/")
        headers = {"Authorization": f"Bearer {key}", "User-Agent": "lorikeet"}
        # A proxy of the environment cannot reach this machine's own loopback.
        proxied = httpx.URL(self.url).host not in ("127.0.0.1", "localhost", "::1")
        self._http = httpx.Client(base_url=self.url, headers=headers, timeout=60, trust_env=proxied)
        self._plain = httpx.Client(timeout=60, trust_env=proxied)

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()
        self._plain.close()

    def is_ready(self) -> bool:
        """Whether the API and all that it stands on answer."""
        try:
            return self._http.get("/readyz", timeout=5).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def generate(self, request: Mapping[str, Any], *, wait_seconds: int = 0) -> Job:
        """Submit a generation; with `wait_seconds`, up to 60, stay until it is done where that is sooner."""
        headers = {"Prefer": f"wait={wait_seconds}"} if wait_seconds else {}
        return self._call("POST", "/api/generate", json=dict(request), headers=headers, timeout=wait_seconds + 60)

    def fine_tune(self, request: Mapping[str, Any]) -> Job:
        """Submit a training."""
        return self._call("POST", "/api/fine-tune", json=dict(request))

    def create_dataset(self, name: str, pictures: Sequence[Picture]) -> dict[str, Any]:
        """Upload pictures with their captions."""
        files = [("images", (picture.name, picture.content)) for picture in pictures]
        captions = [picture.caption for picture in pictures]
        return self._call("POST", "/api/datasets", data={"name": name, "captions": captions}, files=files)

    def job(self, job_id: str) -> Job:
        """A job as it is now."""
        return self._call("GET", f"/api/jobs/{job_id}")

    def cancel(self, job_id: str) -> Job:
        """Ask for a job to stop; a finished one stays as it is."""
        return self._call("POST", f"/api/jobs/{job_id}/cancel")

    def models(self) -> list[dict[str, Any]]:
        """The base models, newest first."""
        return list(self._call("GET", "/api/models")["items"])

    def say(self, feedback: Mapping[str, Any]) -> dict[str, Any]:
        """Say what a user thinks of a picture, or which of two is better."""
        return self._call("POST", "/api/feedback", json=dict(feedback))

    def forget_user(self, user_ref: str) -> dict[str, Any]:
        """Withdraw all that a user ever said; which updates it had shaped, and by when they are replaced."""
        return self._call("DELETE", f"/api/users/{quote(user_ref, safe='')}/feedback")

    def policy(self, model_id: str) -> dict[str, Any]:
        """When feedback becomes an update of a base model, and what it waits for now."""
        return self._call("GET", f"/api/models/{model_id}/policy")

    def set_policy(self, model_id: str, policy: Mapping[str, Any]) -> dict[str, Any]:
        """Say when feedback becomes an update; what is left out takes its default."""
        return self._call("PUT", f"/api/models/{model_id}/policy", json=dict(policy))

    def updates(self) -> list[dict[str, Any]]:
        """The model updates, newest first."""
        return list(self._call("GET", "/api/model-updates")["items"])

    def update(self, update_id: str) -> dict[str, Any]:
        """A model update as it is now."""
        return self._call("GET", f"/api/model-updates/{update_id}")

    def cancel_update(self, update_id: str) -> dict[str, Any]:
        """End an update that is in flight; its canary leaves service."""
        return self._call("POST", f"/api/model-updates/{update_id}/cancel")

    def rollout(self, model_id: str) -> dict[str, Any]:
        """The live comparison that runs, or ran last, and its evidence."""
        return self._call("GET", f"/api/models/{model_id}/rollout")

    def adapter(self, adapter_id: str) -> dict[str, Any]:
        """An adapter with its manifest and its stage."""
        return self._call("GET", f"/api/adapters/{adapter_id}")

    def adapters(self) -> list[dict[str, Any]]:
        """The adapters, newest first."""
        return list(self._call("GET", "/api/adapters")["items"])

    def promote(self, adapter_id: str, *, reason: str) -> dict[str, Any]:
        """Let an adapter serve every request that names none."""
        return self._call("POST", f"/api/adapters/{adapter_id}/promote", json={"reason": reason})

    def roll_back(self, adapter_id: str, *, reason: str) -> dict[str, Any]:
        """Take a champion or a canary out of service; its predecessor, or the bare base, serves again."""
        return self._call("POST", f"/api/adapters/{adapter_id}/rollback", json={"reason": reason})

    def lineage(self, place: str, id: str) -> dict[str, Any]:  # noqa: A002  # what it is everywhere else
        """Where a thing of `images` or `adapters` comes from, and what came of it."""
        return self._call("GET", f"/api/{place}/{id}/lineage")

    def influence(self, feedback_id: str) -> dict[str, Any]:
        """What came of a word of feedback."""
        return self._call("GET", f"/api/feedback/{feedback_id}/influence")

    def follow(self, job: Job, *, glance_seconds: float = 0.2) -> Iterator[Job]:
        """The job again and again, until its last state."""
        while True:
            yield job
            if job["status"] in TERMINAL:
                return
            time.sleep(glance_seconds)
            job = self.job(job["id"])

    def finish(self, job: Job, *, on_change: Callable[[Job], None] = lambda _: None) -> Job:
        """Wait until the job succeeded.

        Raises:
            Refusal: it ended in another way.
        """
        last = job
        for last in self.follow(job):
            on_change(last)
        if last["status"] != "succeeded":
            reason = (last.get("error") or {}).get("message", "")
            raise Refusal(f"Job {last['id']} {last['status']}. {reason}".strip())
        return last

    def download(self, url: str) -> bytes:
        """The bytes behind an output's URL, which needs no key."""
        answer = self._send(lambda: self._plain.get(httpx.URL(self.url).join(url)))
        return answer.content

    def _call(self, method: str, path: str, **content: Any) -> dict[str, Any]:
        answer = self._send(lambda: self._http.request(method, path, **content))
        return dict(answer.json())

    def _send(self, send: Callable[[], httpx.Response]) -> httpx.Response:
        try:
            answer = send()
        except httpx.TransportError as error:
            raise Refusal(f"No answer from {self.url} ({error}). Is `lorikeet up` running?") from error
        if answer.is_error:
            raise Refusal(_words(answer))
        return answer


def _words(answer: httpx.Response) -> str:
    try:
        problem = answer.json()
    except ValueError:
        problem = {}
    if not isinstance(problem, dict) or "title" not in problem:
        return f"The API answered {answer.status_code} to {answer.request.method} {answer.request.url}."
    fields = "; ".join(f"{e.get('field')}: {e.get('message')}" for e in problem.get("errors") or [])
    return fields or str(problem.get("detail") or problem["title"])
