"""The schedule: told by its seed, and of faults that exist."""

from chaos.doorbell import FORGED
from chaos.fault import FAULTS
from chaos.point import OF_GENERATION, OF_TRAINING
from chaos.schedule import FULL, LEAST_CANCELS, LEAST_JOBS, SLICE, plan


def test_a_seed_gives_the_same_schedule_again() -> None:
    once, again = (plan(SLICE, seconds=100, seed=7) for _ in range(2))
    assert once == again
    assert plan(SLICE, seconds=100, seed=8) != once


def test_everything_comes_as_often_as_was_said_within_the_time() -> None:
    schedule = plan({"a": 3, "b": 2}, seconds=10, seed=1)
    assert sorted(due.fault for due in schedule) == ["a", "a", "a", "b", "b"]
    times = [due.at_seconds for due in schedule]
    assert times == sorted(times)
    assert times[0] >= 0
    assert times[-1] <= 10


def test_the_named_faults_are_there() -> None:
    assert SLICE.keys() <= FAULTS.keys()
    assert FULL.keys() <= FAULTS.keys()


def test_the_numbers_are_those_that_are_promised() -> None:
    assert sum(SLICE.values()) >= 120
    assert FULL["generation worker: kill -9"] >= 1000
    assert sum(n for name, n in FULL.items() if "zombie" in name or "SIGSTOP" in name) >= 300
    assert sum(FULL[f"Redis: {how}"] for how in ("kill -9", "kill -9, and its file is lost", "FLUSHALL")) >= 200
    assert FULL["Redis: forged and doubled doorbells"] * FORGED >= 10_000
    assert LEAST_JOBS >= 5_000
    assert LEAST_CANCELS >= 1_000
    assert FULL["Postgres: immediate restart"] >= 100
    assert all(n >= 50 for name, n in FULL.items() if "kill -9 at" in name)
    assert {f"training: kill -9 at '{point}'" for point in OF_TRAINING} <= SLICE.keys()
    assert {f"generation worker: kill -9 at '{point}'" for point in OF_GENERATION} <= SLICE.keys()


def test_every_fault_comes_before_a_release() -> None:
    assert FULL.keys() == FAULTS.keys()
