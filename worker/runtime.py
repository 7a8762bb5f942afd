"""What a worker process is built of, once: settings, database, store, and the engine where it makes pictures."""

import os
import socket
import threading
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING
from uuid import uuid4

from core.domain.holding import NOTHING, Holding
from core.infra.database import Database
from core.infra.object_store import ObjectStore
from core.infra.settings import Settings
from core.infra.task_queue import TaskQueue
from worker.gate import Gate
from worker.heart import Heart

if TYPE_CHECKING:
    from worker.engine.image_engine import ImageEngine


@dataclass
class Runtime:
    """Shared by every job of a process. `draining` is set once, when the process was asked to end."""

    settings: Settings
    database: Database
    store: ObjectStore
    queue: TaskQueue
    worker_id: str
    draining: threading.Event = field(default_factory=threading.Event)
    gate: Gate = field(default_factory=Gate)

    @cached_property
    def heart(self) -> Heart:
        """What keeps the leases of this process's runs."""
        return Heart(self.database, lease_seconds=self.settings.lease_seconds)

    @cached_property
    def engine(self) -> "ImageEngine":
        """The engine, made when first asked for: it brings the GPU stack with it."""
        from worker.engine.image_engine import ImageEngine

        return ImageEngine(self.settings, self.store)

    def holding(self) -> Holding:
        """What the engine has in memory; nothing before there is one, for asking must not make it."""
        return self.engine.holding() if "engine" in vars(self) else NOTHING

    def engine_busy_seconds(self) -> float:
        """For how long the engine's present call lasts; 0 where it waits, or is not there."""
        return self.engine.busy_seconds() if "engine" in vars(self) else 0.0

    def close(self) -> None:
        """Let go of the database and the queue."""
        self.database.close()
        self.queue.close()


def build_runtime(settings: Settings) -> Runtime:
    """Build everything a worker process needs. Connects when first used."""
    return Runtime(
        settings=settings,
        database=Database(settings.database_url, pool_size=settings.generation_slots + 4),
        store=ObjectStore(settings),
        queue=TaskQueue(settings),
        worker_id=f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}",
    )
