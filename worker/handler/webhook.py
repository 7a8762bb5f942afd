"""The postman: tells webhooks what there is to tell, beside the clockwork, so that neither waits for the other."""

import threading
import time
from collections.abc import Sequence

import structlog

from core.domain.errors import LorikeetError
from core.domain.webhook import Answer, Room
from core.infra.webhook_sender import WebhookSender
from core.services import webhook as webhooks
from core.services.webhook import Letter
from worker.runtime import Runtime

_log = structlog.get_logger()
_PATIENCE_SECONDS = 3.0


class Postman:
    """Has some letters on their way at once, each in a thread of its own, and never many to one place (`Room`)."""

    def __init__(self, runtime: Runtime, sender: WebhookSender) -> None:
        self._runtime = runtime
        self._sender = sender
        self._on_their_way: dict[Letter, threading.Thread] = {}
        self._lock = threading.Lock()
        self._arrived = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name="postman", daemon=True)

    def start(self) -> None:
        """Go round on the clock, and whenever a letter arrived, until `stop`."""
        self._thread.start()

    def stop(self) -> None:
        """Set out no more, and wait a little for what is on its way; what is not back then is sent once more."""
        self._stopped.set()
        self._arrived.set()
        deadline = time.monotonic() + _PATIENCE_SECONDS
        self._thread.join(_PATIENCE_SECONDS)
        self.rest(max(0.0, deadline - time.monotonic()))

    def rest(self, seconds: float) -> None:
        """Wait until every letter is back, for so long at most."""
        deadline = time.monotonic() + seconds
        for thread in self._under_way().values():
            thread.join(max(0.0, deadline - time.monotonic()))

    def _go_on(self) -> None:
        while not self._stopped.is_set():
            self._arrived.clear()
            try:
                self.go_round()
            except LorikeetError as error:
                _log.warning("postman_failed", error=error.message)
            except Exception:  # noqa: BLE001  # the postman must outlive any single failure
                _log.exception("postman_failed_unexpectedly")
            self._arrived.wait(self._runtime.settings.sweep_seconds)

    def go_round(self) -> Sequence[Letter]:
        """Write down what there is to tell, and set out with what is due; with which letters.

        Raises:
            Unavailable: the database is not reachable.
        """
        settings, database = self._runtime.settings, self._runtime.database
        with database.transaction() as session:
            webhooks.note_events(session)
        busy = [(letter.tenant_id, letter.host) for letter in self._under_way()]
        room = Room.of(settings.webhook_slots, taken=len(busy))
        if not room.free:
            return []
        with database.transaction() as session:
            letters = webhooks.take(session, room=room, busy=busy, public_url=settings.public_url)
        for letter in letters:
            self._set_out(letter)
        return letters

    def _under_way(self) -> dict[Letter, threading.Thread]:
        with self._lock:
            return dict(self._on_their_way)

    def _set_out(self, letter: Letter) -> None:
        thread = threading.Thread(target=self._bring, args=(letter,), name="letter", daemon=True)
        with self._lock:
            self._on_their_way[letter] = thread
        thread.start()

    def _bring(self, letter: Letter) -> None:
        try:
            answer = self._answer(letter)
            with self._runtime.database.transaction() as session:
                was_held = webhooks.record(session, letter, answer)
        except LorikeetError as error:  # it is sent once more, when its time here is over
            _log.warning("webhook_result_lost", delivery_id=str(letter.id), error=error.message)
        except Exception:  # noqa: BLE001  # the same, and nobody else would say so
            _log.exception("webhook_result_lost_unexpectedly", delivery_id=str(letter.id))
        else:
            _say(letter, answer, was_held=was_held)
        finally:
            with self._lock:
                del self._on_their_way[letter]
            self._arrived.set()

    def _answer(self, letter: Letter) -> Answer:
        try:
            return self._sender.post(
                letter.url, words=letter.words, delivery_id=letter.id, at=letter.at, secrets=letter.secrets
            )
        except Exception:  # noqa: BLE001  # what nobody foresaw is tried again like any failure, and not for ever
            _log.exception("webhook_failed_unexpectedly", delivery_id=str(letter.id))
            return Answer(error="Something went wrong here; the operator's log knows more.")


def _say(letter: Letter, answer: Answer, *, was_held: bool) -> None:
    log = _log.bind(delivery_id=str(letter.id), job_id=str(letter.job_id), attempt=letter.attempt, was_held=was_held)
    if answer.is_delivered:
        log.info("webhook_delivered", status=answer.status_code)
    else:
        log.info("webhook_not_delivered", error=answer.error)
