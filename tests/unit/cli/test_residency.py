from datetime import UTC, datetime
from uuid import uuid4

from cli.residency import table_of
from core.domain.holding import NOTHING, Holding, Residency
from core.domain.job import WorkerKind
from core.services.census import LiveWorker

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


def test_a_line_for_each_worker_in_columns() -> None:
    tiers = {"host": Residency(12, 3 * 2**20, 9, 3), "device": Residency(0, 0, 0, 0)}
    holding = Holding(models={uuid4(): "sdxl", uuid4(): "sd"}, adapters=tiers)
    live = [
        LiveWorker("gpu-1:7:ab", WorkerKind.GENERATION, 4, NOON, holding),
        LiveWorker("gpu-1:8:cd", WorkerKind.TRAINING, 1, NOON, NOTHING),
    ]
    assert table_of(live).splitlines() == [
        "WORKER      KIND        SLOTS  SINCE             MODELS    HOST                     DEVICE",
        "gpu-1:7:ab  generation  4      2026-07-01 12:00  sd, sdxl  12 of 3.0 MiB, 75% hits  0 of 0.0 MiB",
        "gpu-1:8:cd  training    1      2026-07-01 12:00  -         -                        -",
    ]
