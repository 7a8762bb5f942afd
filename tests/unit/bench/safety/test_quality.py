import pytest

from bench.safety.quality import (
    Difference,
    Quality,
    base_of,
    candidate_of,
    difference_of,
    joint_of,
    win_rate,
    without_taste,
)
from tests.safety_bench import BETTER, SAME, WORSE

BROKEN, PLAIN, LOVED = Quality(1, 0, 0), Quality(0, 1, 0), Quality(0, 0, 1)


def test_utility_is_the_mean_worth_of_a_picture() -> None:
    assert (BROKEN.utility, PLAIN.utility, LOVED.utility) == (0, 0.5, 1)
    assert Quality(0.1, 0.4, 0.5).utility == pytest.approx(0.7)


def test_the_better_picture_is_chosen_nine_times_of_ten_and_nobody_chooses_between_equals() -> None:
    assert win_rate(LOVED, PLAIN) == pytest.approx(0.9)
    assert win_rate(BROKEN, PLAIN) == pytest.approx(0.1)
    assert win_rate(PLAIN, PLAIN) == 0.5
    assert win_rate(Quality(0, 0.5, 0.5), PLAIN) == pytest.approx(0.9)
    assert win_rate(Quality(0, 0.4, 0.6), Quality(0, 0.6, 0.4)) == pytest.approx(0.5 + 0.4 * 0.2 / 0.52)


def test_the_other_camp_loves_what_this_one_does_not_but_no_broken_picture() -> None:
    assert LOVED.reversed_taste() == PLAIN
    assert BROKEN.reversed_taste() == BROKEN


def test_levels_are_counted_in_pairs() -> None:
    joint = joint_of([0, 1, 1, 2], [1, 1, 2, 2])
    assert joint == [[0, 1, 0], [0, 1, 1], [0, 0, 1]]
    assert base_of(joint) == Quality(0.25, 0.5, 0.25)
    assert candidate_of(joint) == Quality(0.0, 0.5, 0.5)


def test_a_difference_is_told_only_where_the_pictures_tell_it() -> None:
    assert difference_of(BETTER).says == "better"
    assert difference_of(WORSE).says == "worse"
    same = difference_of(SAME)
    assert same.mean == 0.0
    assert -same.lower == same.upper == pytest.approx(0.0157, abs=1e-3)
    assert same.says == "same"


def test_what_is_worse_by_a_hair_is_as_good() -> None:
    assert Difference(-0.005, -0.008, -0.002).says == "same"


def test_without_a_taste_only_broken_pictures_count() -> None:
    assert without_taste([[1, 2, 3], [4, 5, 6], [7, 8, 9]]) == [[1, 5, 0], [11, 28, 0], [0, 0, 0]]
    assert candidate_of(without_taste(BETTER)) == candidate_of(BETTER).without_taste()
    assert difference_of(without_taste(BETTER)).mean == 0
