"""What the live workers hold in memory, as a table for the terminal."""

from collections.abc import Sequence

from cli.columns import in_columns
from core.domain.holding import Residency
from core.services.census import LiveWorker

_TIERS = ("host", "device")
_HEADER = ("WORKER", "KIND", "SLOTS", "SINCE", "MODELS", *(tier.upper() for tier in _TIERS))
_NONE = "-"


def table_of(live: Sequence[LiveWorker]) -> str:
    """A line per worker; each tier's adapters, MiB, and share of the questions that it could answer."""
    return in_columns([_HEADER, *(_row(worker) for worker in live)])


def _row(worker: LiveWorker) -> tuple[str, ...]:
    return (
        worker.id,
        worker.kind,
        str(worker.slots),
        f"{worker.started_at:%Y-%m-%d %H:%M}",
        ", ".join(sorted(worker.holds.models.values())) or _NONE,
        *(_tier(worker.holds.adapters.get(tier)) for tier in _TIERS),
    )


def _tier(residency: Residency | None) -> str:
    if residency is None:
        return _NONE
    rate = residency.hit_rate
    hits = "" if rate is None else f", {rate:.0%} hits"
    return f"{residency.adapters} of {residency.size_bytes / 2**20:.1f} MiB{hits}"
