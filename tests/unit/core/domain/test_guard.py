import pytest

from core.domain.guard import MIN_JOBS, ArmWork, find_fault, lower_bound
from core.domain.policy import RolloutPolicy

POLICY = RolloutPolicy(max_failure_rise=0.05, max_slowdown=1.5)
FINE = ArmWork(jobs=100, failed=2, seconds_per_unit=1.0)


@pytest.mark.parametrize(
    ("challenger", "fault"),
    [
        (ArmWork(), None),
        (ArmWork(jobs=MIN_JOBS - 1, failed=MIN_JOBS - 1), None),
        (ArmWork(jobs=MIN_JOBS, failed=2, seconds_per_unit=1.5), None),
        (ArmWork(jobs=MIN_JOBS, failed=8), f"8 of {MIN_JOBS} jobs with the challenger failed, and 2 of 100 without it"),
        (ArmWork(jobs=50, failed=0, seconds_per_unit=2.04), "take 2.0 times as long; at most 1.5 is allowed"),
        (ArmWork(jobs=50, failed=0), None),
    ],
)
def test_a_fault_is_a_sentence(challenger: ArmWork, fault: str | None) -> None:
    found = find_fault(challenger, FINE, POLICY)
    assert (found is None) == (fault is None)
    assert fault is None or fault in (found or "")


def test_where_a_challenger_serves_everybody_it_is_not_to_fail() -> None:
    few = ArmWork(jobs=3, failed=3, seconds_per_unit=0.1)
    assert find_fault(ArmWork(jobs=100, failed=50), few, POLICY) == "50 of 100 jobs with the challenger failed."
    assert find_fault(ArmWork(jobs=100, failed=5, seconds_per_unit=9.0), few, POLICY) is None


def test_the_lower_bound_of_a_share() -> None:
    assert lower_bound(0, 0, z=1.96) == 0
    assert lower_bound(0, 10, z=1.96) == 0
    assert lower_bound(50, 100, z=1.96) == pytest.approx(0.4038, abs=1e-4)
    assert lower_bound(10, 10, z=1.96) == pytest.approx(0.7225, abs=1e-4)
