"""What Prometheus may ask: requests of this process, and the state of the whole system."""

from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, GCCollector, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from core.domain.errors import Unavailable
from core.domain.job import WorkerKind
from core.infra.database import Database
from core.services import census
from core.services.census import Census, LiveWorker

_METHODS = {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"}
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

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Note one request; status 0 is one that broke off."""
        self._requests.labels(method if method in _METHODS else "other", route, status).inc()
        self._seconds.labels(route).observe(seconds)


class SystemCollector(Collector):
    """What a census counted; None where the database was away."""

    def __init__(self, count: Census | None) -> None:
        self._count = count

    def collect(self) -> Iterator[Metric]:
        """Jobs, queues, workers and what they hold; only that the database is away where it is."""
        is_up = GaugeMetricFamily("lorikeet_database_up", "Whether Postgres answers.")
        is_up.add_metric([], self._count is not None)
        yield is_up
        if self._count is not None:
            yield from (*_work(self._count), *_holdings(self._count.live), *_webhooks(self._count))


def _work(count: Census) -> Iterator[Metric]:
    jobs = GaugeMetricFamily("lorikeet_jobs", "Jobs kept.", labels=["kind", "status"])
    queued = GaugeMetricFamily("lorikeet_queue_length", "Jobs that wait for a worker.", labels=["kind"])
    overdue = GaugeMetricFamily(
        "lorikeet_jobs_overdue_seconds", "How long the lease or deadline is over that was first."
    )
    workers = GaugeMetricFamily("lorikeet_workers_alive", "Worker processes seen lately.", labels=["kind"])
    for (kind, status), number in count.jobs.items():
        jobs.add_metric([kind, status], number)
    for kind, number in count.queued.items():
        queued.add_metric([kind], number)
    for worker, number in count.workers.items():
        workers.add_metric([worker], number)
    overdue.add_metric([], count.jobs_overdue)
    yield from (jobs, queued, overdue, workers)


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


def take_census(database: Database) -> Census | None:
    """Count now; None where the database is away."""
    try:
        with database.transaction() as session:
            return census.take(session)
    except Unavailable:
        return None


def build_registry() -> CollectorRegistry:
    """A registry of this process alone: two applications in one process do not meet."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry
