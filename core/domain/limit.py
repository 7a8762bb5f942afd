"""What one tenant may use. Where the operator gives a tenant no limit of its own, the settings' hold; inf is none."""

import math
from dataclasses import dataclass, fields


@dataclass(frozen=True, kw_only=True)
class Limits:
    """`requests_per_minute` are of each API key at each API process; all others are of the tenant.

    `queued_jobs` and `queued_seconds`, which are estimated seconds of work, are what may wait for the generation
    workers, and as much again for the training workers: neither line holds up the other. `gpu_seconds_per_day` are
    seconds that jobs of all workers have run for within 24 hours; those that share a device count in full. `share` is
    the tenant's part of the workers' time beside other tenants' parts, where more is asked for than they can do.
    `queued_jobs_of_all` is not a tenant's own: it ends the lines for everybody.
    """

    requests_per_minute: float = math.inf
    queued_jobs: float = math.inf
    queued_seconds: float = math.inf
    gpu_seconds_per_day: float = math.inf
    share: float = 1.0
    queued_jobs_of_all: float = math.inf


UNLIMITED = Limits()
LIMIT_NAMES = tuple(field.name for field in fields(Limits) if field.name != "queued_jobs_of_all")
"""What an operator may give a tenant."""
