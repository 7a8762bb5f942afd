"""What an API process is built of, once."""

import threading
from dataclasses import dataclass, field
from functools import partial

from prometheus_client import CollectorRegistry

from api.doorkeeper import Doorkeeper
from api.glance import Glance
from api.job_watch import JobWatch
from api.metric import Look, build_registry, look
from api.reach import Reach, reach
from api.workshop import Workshop
from core.domain.feedback_token import TokenSigner
from core.domain.signature import Signer
from core.infra.database import Database
from core.infra.image_file import close_decoders
from core.infra.job_ear import JobEar
from core.infra.object_store import ObjectStore
from core.infra.settings import Settings
from core.infra.task_queue import TaskQueue
from core.services.model_memory import ModelMemory

METRIC_SECONDS = 5.0
"""A census reads whole tables, and anybody may ask for it."""

REACH_SECONDS = 1.0
"""A load balancer asks more seldom; others may ask as often as they like."""


@dataclass(frozen=True)
class Runtime:
    """Shared by every request of a process. `ending` is set once it was asked to end.

    `uploads` is for datasets and adapters, which take up to minutes, `init_images` for pictures that jobs begin with.
    """

    settings: Settings
    database: Database
    store: ObjectStore
    queue: TaskQueue
    doorkeeper: Doorkeeper
    watch: JobWatch
    memory: ModelMemory
    signer: Signer
    token_signer: TokenSigner
    registry: CollectorRegistry
    metrics: Glance[Look]
    reach: Glance[Reach]
    uploads: Workshop
    init_images: Workshop
    ending: threading.Event = field(default_factory=threading.Event)

    def close(self) -> None:
        """Give the connections back, and end what was started."""
        self.queue.close()
        self.database.close()
        close_decoders()


def build_runtime(settings: Settings) -> Runtime:
    """Build everything an API process needs. Connects when first used."""
    database, store, queue = Database(settings.database_url), ObjectStore(settings), TaskQueue(settings)
    secret = settings.secret_key.get_secret_value().encode()
    threads = {"threads": settings.upload_threads, "of_one": settings.upload_threads_of_one}
    return Runtime(
        settings=settings,
        database=database,
        store=store,
        queue=queue,
        doorkeeper=Doorkeeper(database, settings.limits),
        watch=JobWatch(database, JobEar(settings)),
        memory=ModelMemory(),
        signer=Signer(secret),
        token_signer=TokenSigner(secret),
        registry=build_registry(),
        metrics=Glance(partial(look, database, queue), seconds=METRIC_SECONDS),
        reach=Glance(partial(reach, database, store, queue), seconds=REACH_SECONDS),
        uploads=Workshop(**threads),
        init_images=Workshop(**threads),
    )
