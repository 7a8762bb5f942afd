"""What Prometheus may ask: requests of this process, and the state of the whole system."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, GCCollector, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from core.domain.errors import Unavailable
from core.domain.job import WorkerKind
from core.infra.database import Database
from core.infra.task_queue import TaskQueue
from core.services import census
from core.services.census import Census, LiveWorker

_METHODS = {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"}
_WATCHED = (408, 429, 500, 503)
"""Statuses that operators hear of by their rate, which needs a zero before the first."""

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class HttpMetrics:
    """Counts and times requests by method, route and status.

    A method can be any word, and every label is kept for as long as the process lives: strange ones share one.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ["method", "route", "status"]
        self._requests = Counter("lorikeet_http_requests", "Requests answered.", labels, registry=registry)
        self._seconds = Histogram(
            "lorikeet_http_request_seconds", "Time to answer.", ["route"], buckets=_SECONDS, registry=registry
        )

    def expect(self, operations: Iterable[tuple[str, str]]) -> None:
        """Show that each of these methods and routes went wrong not once so far."""
        for method, route in operations:
            for status in _WATCHED:
                self._requests.labels(method, route, status)

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Note one request; status 0 is one that broke off."""
        self._requests.labels(method if method in _METHODS else "other", route, status).inc()
        self._seconds.labels(route).observe(seconds)


@dataclass(frozen=True)
class Look:
    """`count` is None where the database was away; `queue` is whether Redis answered and took doorbells."""

    count: Census | None
    queue: bool


class SystemCollector(Collector):
    """What a look at the systems behind the API saw."""

    def __init__(self, look: Look) -> None:
        self._look = look

    def collect(self) -> Iterator[Metric]:
        """Jobs, queues, workers and what they hold; only that the database is away where it is."""
        count = self._look.count
        database = GaugeMetricFamily("lorikeet_database_up", "Whether Postgres answers.")
        queue = GaugeMetricFamily("lorikeet_queue_up", "Whether Redis answers and takes doorbells.")
        database.add_metric([], count is not None)
        queue.add_metric([], self._look.queue)
        yield from (database, queue)
        if count is not None:
            yield from (*_work(count), *_holdings(count.live), *_webhooks(count))


def _work(count: Census) -> Iterator[Metric]:
    jobs = GaugeMetricFamily("lorikeet_jobs", "Jobs kept.", labels=["kind", "status"])
    queued = GaugeMetricFamily("lorikeet_queue_length", "Jobs that wait for a worker.", labels=["kind"])
    failed = GaugeMetricFamily("lorikeet_jobs_failed", "Failed jobs kept.", labels=["kind", "code"])
    overdue = GaugeMetricFamily(
        "lorikeet_jobs_overdue_seconds", "How long the lease or deadline is over that was first."
    )
    workers = GaugeMetricFamily(
        "lorikeet_workers_alive", "Workers, and upkeep, that were seen lately.", labels=["kind"]
    )
    for (kind, status), number in count.jobs.items():
        jobs.add_metric([kind, status], number)
    for (kind, code), number in count.failed.items():
        failed.add_metric([kind, code], number)
    for kind, number in count.queued.items():
        queued.add_metric([kind], number)
    for worker, number in count.workers.items():
        workers.add_metric([worker], number)
    overdue.add_metric([], count.jobs_overdue)
    yield from (jobs, queued, failed, overdue, workers)


def _webhooks(count: Census) -> Iterator[Metric]:
    told = GaugeMetricFamily("lorikeet_webhook_deliveries", "Deliveries to webhooks that are kept.", labels=["outcome"])
    overdue = GaugeMetricFamily("lorikeet_webhook_overdue_seconds", "How long the delivery waits that is due longest.")
    for outcome, number in count.webhooks.items():
        told.add_metric([outcome], number)
    overdue.add_metric([], count.webhook_overdue)
    yield from (told, overdue)


def _holdings(live: Sequence[LiveWorker]) -> Iterator[Metric]:
    labels = ["worker", "tier"]
    models = GaugeMetricFamily("lorikeet_models_resident", "Base models that a worker holds.", labels=["worker"])
    adapters = GaugeMetricFamily("lorikeet_adapters_resident", "Adapters that a worker holds.", labels=labels)
    size = GaugeMetricFamily("lorikeet_adapter_bytes", "Bytes of the adapters that a worker holds.", labels=labels)
    hits = CounterMetricFamily("lorikeet_adapter_hits", "Adapters found where they were looked for.", labels=labels)
    misses = CounterMetricFamily("lorikeet_adapter_misses", "Adapters that were not there.", labels=labels)
    for worker in live:
        if worker.kind is WorkerKind.GENERATION:
            models.add_metric([worker.id], len(worker.holds.models))
        for tier, residency in worker.holds.adapters.items():
            adapters.add_metric([worker.id, tier], residency.adapters)
            size.add_metric([worker.id, tier], residency.size_bytes)
            hits.add_metric([worker.id, tier], residency.hits)
            misses.add_metric([worker.id, tier], residency.misses)
    yield from (models, adapters, size, hits, misses)


def look(database: Database, queue: TaskQueue) -> Look:
    """Count now."""
    try:
        with database.transaction() as session:
            count = census.take(session)
    except Unavailable:
        count = None
    return Look(count, queue.is_reachable())


def build_registry() -> CollectorRegistry:
    """A registry of this process alone: two applications in one process do not meet."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry
