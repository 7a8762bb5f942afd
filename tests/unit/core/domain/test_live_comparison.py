import math
import random

from core.domain.feedback import FeedbackKind
from core.domain.live_comparison import Comparison, LiveOpinion, Thumb, compare, thumbs_of
from core.domain.rollout import Arm
from core.domain.sequential_test import SequentialTest

CHALLENGER, INCUMBENT = Arm.CHALLENGER, Arm.INCUMBENT


def choice(user: str, request: str, chosen: Arm = CHALLENGER, rejected: Arm = INCUMBENT) -> LiveOpinion:
    return LiveOpinion(
        user_ref=user, request=request, kind=FeedbackKind.CHOICE, arm=chosen, rejected_arm=rejected, side_by_side=True
    )


def thumb(user: str, request: str, arm: Arm, liked: bool, *, side_by_side: bool = False) -> LiveOpinion:
    return LiveOpinion(
        user_ref=user,
        request=request,
        kind=FeedbackKind.THUMB,
        arm=arm,
        score=float(liked),
        side_by_side=side_by_side,
    )


def compared(*opinions: LiveOpinion, max_per_user: int = 10) -> list[tuple[float, float]]:
    return [(each.difference, each.weight) for each in compare(opinions, max_per_user=max_per_user)]


def test_a_choice_between_the_arms_is_a_comparison() -> None:
    assert compared(choice("a", "1"), choice("b", "2", INCUMBENT, CHALLENGER)) == [(1, 1), (-1, 1)]


def test_a_choice_within_one_arm_says_nothing_of_the_other() -> None:
    assert compared(choice("a", "1", CHALLENGER, CHALLENGER)) == []


def test_a_request_counts_once_however_much_a_user_says_of_it() -> None:
    said = [choice("a", "1"), choice("a", "1", INCUMBENT, CHALLENGER)]
    said += [thumb("a", "1", arm, arm is INCUMBENT, side_by_side=True) for arm in Arm]
    assert compared(*said) == [(1, 1)]


def test_thumbs_on_both_sides_are_a_comparison() -> None:
    sides = [thumb("a", "1", CHALLENGER, False, side_by_side=True), thumb("a", "1", INCUMBENT, True, side_by_side=True)]
    assert compared(sides[0]) == []
    assert compared(*sides) == [(-1, 1)]
    assert compared(thumb("a", "1", CHALLENGER, True, side_by_side=True), sides[1]) == [(0, 1)]


def test_users_of_one_arm_each_are_compared_by_their_first_word() -> None:
    said = [thumb("a", "1", CHALLENGER, True), thumb("a", "2", CHALLENGER, True), thumb("b", "3", INCUMBENT, False)]
    said += [thumb("c", "4", INCUMBENT, False), thumb("b", "5", INCUMBENT, False)]
    assert compared(*said) == [(1, 1)]


def test_the_nearest_in_time_is_compared_with() -> None:
    said = [thumb("a", "1", INCUMBENT, True), thumb("b", "2", INCUMBENT, False), thumb("c", "3", CHALLENGER, True)]
    assert compared(*said) == [(1, 1)]


def test_a_user_who_saw_both_arms_is_compared_with_himself() -> None:
    said = [thumb("a", "1", INCUMBENT, True), thumb("a", "2", INCUMBENT, False), thumb("a", "3", CHALLENGER, True)]
    assert compared(*said) == [(1, 1)]


def test_ratings_are_compared_with_ratings() -> None:
    rating = LiveOpinion(user_ref="b", request="2", kind=FeedbackKind.RATING, arm=INCUMBENT, score=0.25)
    better = LiveOpinion(user_ref="c", request="3", kind=FeedbackKind.RATING, arm=CHALLENGER, score=1.0)
    assert compared(thumb("a", "1", CHALLENGER, True), rating) == []
    assert compared(thumb("a", "1", CHALLENGER, True), rating, better) == [(0.75, 1)]


def test_no_user_decides_alone() -> None:
    said = [choice("hostile", str(number), INCUMBENT, CHALLENGER) for number in range(500)]
    comparisons = compare(said, max_per_user=10)
    assert [each.weight for each in comparisons] == [1 / n for n in range(1, 11)]
    test = SequentialTest()
    for each in comparisons:
        test.add(each.difference, each.weight)
    assert test.worse < 11 < 20


def test_thumbs_of_an_arm() -> None:
    said = [thumb("a", "1", CHALLENGER, True), thumb("a", "2", CHALLENGER, False), thumb("b", "3", INCUMBENT, True)]
    assert thumbs_of(said, CHALLENGER, max_per_user=10) == [Thumb(True, 1), Thumb(False, 0.5)]
    assert thumbs_of(said, CHALLENGER, max_per_user=1) == [Thumb(True, 1)]


def test_users_who_differ_much_raise_few_false_alarms() -> None:
    """Sticky users, each with a like rate of his own, the same in both arms."""
    rng = random.Random(3)
    alarms = 0
    for _ in range(300):
        users = [(f"u{number}", rng.choice(list(Arm)), rng.betavariate(1, 1)) for number in range(60)]
        said = []
        for number in range(400):
            user, arm, rate = rng.choice(users)
            said.append(thumb(user, str(number), arm, rng.random() < rate))
        alarms += reaches(compare(said, max_per_user=10), 20.0)
    assert alarms / 300 <= 0.05


def reaches(comparisons: list[Comparison], needed: float) -> bool:
    test, highest = SequentialTest(), -math.inf
    for each in comparisons:
        test.add(each.difference, each.weight)
        highest = max(highest, test.better)
    return highest >= needed
