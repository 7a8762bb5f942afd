import random
from collections import Counter

import pytest

from core.domain.rollout import Arm, RolloutKind, arms_of, bucket_of

CHALLENGER, INCUMBENT = Arm.CHALLENGER, Arm.INCUMBENT


def arms(kind: RolloutKind, *, bucket: float, num_images: int, seed: int = 0) -> tuple[Arm, ...]:
    return arms_of(kind, share=0.1, bucket=bucket, num_images=num_images, draw=random.Random(seed))


def test_a_user_stays_where_he_is_and_stands_elsewhere_in_another_rollout() -> None:
    assert bucket_of("one", "user") == bucket_of("one", "user")
    assert bucket_of("one", "user") != bucket_of("two", "user")
    assert 0 <= bucket_of("one", "") < 1


def test_users_spread_evenly() -> None:
    buckets = [bucket_of("rollout", f"user-{number}") for number in range(4000)]
    tenths = Counter(int(bucket * 10) for bucket in buckets)
    assert set(tenths) == set(range(10))
    assert all(320 < count < 480 for count in tenths.values())


@pytest.mark.parametrize(("kind", "small", "large"), [
    (RolloutKind.CANARY, CHALLENGER, INCUMBENT),
    (RolloutKind.WATCH, INCUMBENT, CHALLENGER),
])  # fmt: skip
def test_the_small_arm_gets_the_share(kind: RolloutKind, small: Arm, large: Arm) -> None:
    assert arms(kind, bucket=0.05, num_images=1) == (small,)
    assert arms(kind, bucket=0.1, num_images=1) == (large,)
    assert arms(kind, bucket=0.5, num_images=3) == (large,) * 3
    assert Counter(arms(kind, bucket=0.05, num_images=5)) == {small: 2, large: 3}


def test_sides_are_drawn_anew() -> None:
    orders = {arms(RolloutKind.CANARY, bucket=0.05, num_images=2, seed=seed) for seed in range(20)}
    assert orders == {(CHALLENGER, INCUMBENT), (INCUMBENT, CHALLENGER)}
