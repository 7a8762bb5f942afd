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


def compared(*opinions: LiveOpinion, max_per_user: int = 10) -> list[tuple[float, str]]:
    return [(each.difference, each.voice) for each in compare(opinions, max_per_user=max_per_user)]


def test_a_choice_between_the_arms_is_a_comparison() -> None:
    assert compared(choice("a", "1"), choice("b", "2", INCUMBENT, CHALLENGER)) == [(1, "a"), (-1, "b")]


def test_a_choice_within_one_arm_says_nothing_of_the_other() -> None:
    assert compared(choice("a", "1", CHALLENGER, CHALLENGER)) == []


def test_a_request_counts_once_however_much_a_user_says_of_it() -> None:
    said = [choice("a", "1"), choice("a", "1", INCUMBENT, CHALLENGER)]
    said += [thumb("a", "1", arm, arm is INCUMBENT, side_by_side=True) for arm in Arm]
    assert compared(*said) == [(1, "a")]


def test_thumbs_on_both_sides_are_a_comparison() -> None:
    sides = [thumb("a", "1", CHALLENGER, False, side_by_side=True), thumb("a", "1", INCUMBENT, True, side_by_side=True)]
    assert compared(sides[0]) == []
    assert compared(*sides) == [(-1, "a")]
    assert compared(thumb("a", "1", CHALLENGER, True, side_by_side=True), sides[1]) == [(0, "a")]


def test_users_of_one_arm_each_are_compared_by_their_first_word() -> None:
    said = [thumb("a", "1", CHALLENGER, True), thumb("a", "2", CHALLENGER, True), thumb("b", "3", INCUMBENT, False)]
    said += [thumb("c", "4", INCUMBENT, False), thumb("b", "5", INCUMBENT, False)]
    assert compared(*said) == [(1, "a\nb")]


def test_the_nearest_in_time_is_compared_with() -> None:
    said = [thumb("a", "1", INCUMBENT, True), thumb("b", "2", INCUMBENT, False), thumb("c", "3", CHALLENGER, True)]
    assert compared(*said) == [(1, "b\nc")]


def test_a_user_who_saw_both_arms_is_compared_with_himself() -> None:
    said = [thumb("a", "1", INCUMBENT, True), thumb("a", "2", INCUMBENT, False), thumb("a", "3", CHALLENGER, True)]
    assert compared(*said) == [(1, "a")]


def test_ratings_are_compared_with_ratings() -> None:
    rating = LiveOpinion(user_ref="b", request="2", kind=FeedbackKind.RATING, arm=INCUMBENT, score=0.25)
    better = LiveOpinion(user_ref="c", request="3", kind=FeedbackKind.RATING, arm=CHALLENGER, score=1.0)
    assert compared(thumb("a", "1", CHALLENGER, True), rating) == []
    assert compared(thumb("a", "1", CHALLENGER, True), rating, better) == [(0.75, "b\nc")]


def test_no_user_decides_alone() -> None:
    said = [choice("hostile", str(number), INCUMBENT, CHALLENGER) for number in range(500)]
    comparisons = compare(said, max_per_user=10)
    assert [each.voice for each in comparisons] == ["hostile"] * 10
    test = SequentialTest()
    for each in comparisons:
        test.add(each.difference, each.voice)
    assert test.worse < 2


def test_thumbs_of_an_arm() -> None:
    said = [thumb("a", "1", CHALLENGER, True), thumb("a", "2", CHALLENGER, False), thumb("b", "3", INCUMBENT, True)]
    assert thumbs_of(said, CHALLENGER, max_per_user=10) == [Thumb(True, "a"), Thumb(False, "a")]
    assert thumbs_of(said, CHALLENGER, max_per_user=1) == [Thumb(True, "a")]


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
        alarms += reaches(compare(said, max_per_user=3), 20.0)
    assert alarms / 300 <= 0.05


def test_users_with_fixed_minds_raise_few_false_alarms() -> None:
    """Half of them always choose one arm, half the other; each speaks again and again."""
    rng = random.Random(4)
    alarms = 0
    for _ in range(300):
        minds = [(f"u{number}", rng.choice(list(Arm))) for number in range(60)]
        said = [
            choice(user, str(request), chosen, INCUMBENT if chosen is CHALLENGER else CHALLENGER)
            for request, (user, chosen) in enumerate(rng.choices(minds, k=400))
        ]
        alarms += reaches(compare(said, max_per_user=10), 20.0)
    assert alarms / 300 <= 0.05


def reaches(comparisons: list[Comparison], needed: float) -> bool:
    test, highest = SequentialTest(), -math.inf
    for each in comparisons:
        test.add(each.difference, each.voice)
        highest = max(highest, test.better)
    return highest >= needed
