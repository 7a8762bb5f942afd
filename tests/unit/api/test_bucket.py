"""The bucket of a key: as many requests as it holds, and then as fast as it fills."""

from math import inf
from uuid import uuid4

import pytest

from api import bucket
from api.bucket import Buckets
from core.domain.errors import TooManyRequests


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(bucket, "time", clock)
    return clock


def test_a_minutes_requests_may_come_at_once_and_then_one_by_one(clock: Clock) -> None:
    buckets, key = Buckets(), uuid4()
    for _ in range(30):
        buckets.take(key, per_minute=30)
    with pytest.raises(TooManyRequests, match="30 requests a minute") as refusal:
        buckets.take(key, per_minute=30)
    assert refusal.value.retry_after_seconds == 2
    clock.now += refusal.value.retry_after_seconds
    buckets.take(key, per_minute=30)
    with pytest.raises(TooManyRequests):
        buckets.take(key, per_minute=30)


def test_a_refused_request_costs_nothing(clock: Clock) -> None:
    buckets, key = Buckets(), uuid4()
    buckets.take(key, per_minute=1)
    for _ in range(59):
        with pytest.raises(TooManyRequests):
            buckets.take(key, per_minute=1)
        clock.now += 1
    clock.now += 1
    buckets.take(key, per_minute=1)


def test_a_key_empties_only_its_own_and_no_limit_is_none(clock: Clock) -> None:
    buckets, one, other = Buckets(), uuid4(), uuid4()
    buckets.take(one, per_minute=1)
    buckets.take(other, per_minute=1)
    for _ in range(1000):
        buckets.take(other, per_minute=inf)


def test_a_full_bucket_gets_no_fuller(clock: Clock) -> None:
    buckets, key = Buckets(), uuid4()
    buckets.take(key, per_minute=2)
    clock.now += 3600
    for _ in range(2):
        buckets.take(key, per_minute=2)
    with pytest.raises(TooManyRequests):
        buckets.take(key, per_minute=2)


def test_less_than_one_a_minute_is_one_now_and_then_and_none_is_none(clock: Clock) -> None:
    buckets, seldom, never = Buckets(), uuid4(), uuid4()
    buckets.take(seldom, per_minute=0.5)
    with pytest.raises(TooManyRequests) as refusal:
        buckets.take(seldom, per_minute=0.5)
    clock.now += refusal.value.retry_after_seconds
    buckets.take(seldom, per_minute=0.5)
    with pytest.raises(TooManyRequests, match="no requests"):
        buckets.take(never, per_minute=0)
