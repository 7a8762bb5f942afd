import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from core.domain.preference import HeldOutLook
from tests.training_bench import make_learner, make_preference_plan
from worker.training.learner import Learner
from worker.training.preference_guide import PreferenceGuide, best_of, fell_twice


def look(step: int, accuracy: float | None, margin: float = 0.1, ratio: float = 1.0) -> HeldOutLook:
    return HeldOutLook(step=step, accuracy=accuracy, margin=margin, chosen_error_ratio=ratio)


@dataclass
class Told:
    """In place of a loss and of held-out rows: says what it is told to. Notes the weights it was shown."""

    looks: list[HeldOutLook]
    learner: Learner
    gradient_factor: float = 0.3
    liked_error_ratio: float = 1.0

    def __len__(self) -> int:
        return 1000

    def look(self, step: int) -> HeldOutLook:
        self.seen = {name: weight.detach().clone() for name, weight in self.learner.parameters().items()}
        return next(each for each in self.looks if each.step == step)

    def snapshot(self) -> dict[str, torch.Tensor]:
        return {}

    def restore(self, state: dict[str, torch.Tensor]) -> None: ...


def make_guide(
    *looks: HeldOutLook, steps: int = 12, ema_decay: float = 0.5, strength: float = 1.0, **told: float
) -> tuple[PreferenceGuide, Told, Learner]:
    """A guide that looks after every third of twelve steps."""
    plan = make_preference_plan(steps=steps, ema_decay=ema_decay, strength=strength)
    learner = make_learner(plan)
    teller = Told(list(looks), learner, **told)
    held_out = teller if looks else None
    return PreferenceGuide(learner, teller, held_out, plan.spec), teller, learner  # type: ignore[arg-type]


def go(guide: PreferenceGuide, learner: Learner, *, first: int = 1, last: int = 12, losses: dict[int, float]) -> int:
    """Take steps that set every weight to the step's number; gives the step after which the run ends."""
    for step in range(first, last + 1):
        for weight in learner.parameters().values():
            weight.data.fill_(step)
        if guide.follow(step, torch.tensor(losses.get(step, 0.7))):
            return step
    return last


def value(learner: Learner) -> float:
    """What all weights are set to."""
    (found,) = {number.item() for weight in learner.parameters().values() for number in weight.unique()}
    return float(found)


RISING = (look(3, 0.6), look(6, 0.7), look(9, 0.8), look(12, 0.9))


def test_all_steps_are_taken_while_it_goes_well_and_the_last_average_is_the_best() -> None:
    guide, _, learner = make_guide(*RISING, ema_decay=0.0)
    assert go(guide, learner, losses={}) == 12
    guide.settle()
    assert (guide.best_step, value(learner), len(guide.looks)) == (12, 12.0, 4)
    assert guide.stop_reason == "all 12 steps were taken"


def test_the_best_average_is_kept_not_the_last() -> None:
    guide, _, learner = make_guide(look(3, 0.6), look(6, 0.9), look(9, 0.8), look(12, 0.9, 0.05), ema_decay=0.0)
    go(guide, learner, losses={})
    assert value(learner) == 12.0  # looking did not disturb
    guide.settle()
    assert (guide.best_step, value(learner)) == (6, 6.0)


def test_averages_are_what_is_looked_at() -> None:
    guide, told, learner = make_guide(*RISING)
    initial = {name: weight.detach().clone() for name, weight in learner.parameters().items()}
    go(guide, learner, last=3, losses={})
    for name, seen in told.seen.items():
        torch.testing.assert_close(seen, 0.125 * initial[name] + 0.125 * 1 + 0.25 * 2 + 0.5 * 3)
    assert value(learner) == 3.0


def test_without_held_out_rows_the_last_average_is_kept() -> None:
    guide, _, learner = make_guide(ema_decay=0.0)
    go(guide, learner, losses={})
    guide.settle()
    assert (guide.best_step, value(learner), guide.looks) == (12, 12.0, ())


@pytest.mark.parametrize(
    ("looks", "told", "losses", "step", "reason"),
    [
        ((look(3, 0.9), look(6, 0.8), look(9, 0.7)), {}, {}, 9, "fallen twice, to 0.70"),
        ((look(3, 0.6), look(6, 0.7, ratio=1.03)), {}, {}, 6, "3.0% above"),
        ((look(3, 0.6),), {"gradient_factor": 0.04}, {}, 3, "0.040"),
        ((look(3, 0.6), look(6, 0.7)), {}, {5: 3.5}, 6, "5.0 times its running mean"),
        ((), {"liked_error_ratio": 1.03}, {}, 3, "3.0% above"),
    ],
)
def test_a_run_ends_early(
    looks: tuple[HeldOutLook, ...], told: dict[str, Any], losses: dict[int, float], step: int, reason: str
) -> None:
    guide, _, learner = make_guide(*looks, **told)
    assert go(guide, learner, losses=losses) == step
    assert reason in guide.stop_reason and guide.stop_reason.startswith(f"after step {step} ")


def test_numbers_that_are_not_finite_are_left_to_the_loop() -> None:
    guide, _, learner = make_guide(look(3, 0.6), steps=3, gradient_factor=math.nan)
    assert go(guide, learner, last=3, losses={3: math.nan}) == 3
    assert guide.stop_reason == "all 3 steps were taken"


def test_a_loss_that_is_small_may_vary() -> None:
    guide, _, learner = make_guide(*RISING)
    assert go(guide, learner, losses=dict.fromkeys(range(2, 11), 0.01) | {11: 0.6}) == 12


@pytest.mark.parametrize("cut", [1, 4, 8])
def test_a_resumed_guide_goes_on_as_if_nothing_had_happened(cut: int) -> None:
    looks = (look(3, 0.9), look(6, 0.8, 0.2), look(9, 0.8, 0.3), look(12, 0.7))
    straight, _, one = make_guide(*looks)
    go(straight, one, losses={7: 1.0})
    before, _, other = make_guide(*looks)
    go(before, other, last=cut, losses={7: 1.0})
    state = {name: tensor.clone() for name, tensor in before.snapshot().items()}
    after, _, third = make_guide(*looks)
    after.restore(state)
    go(after, third, first=cut + 1, losses={7: 1.0})
    for guide in (straight, after):
        guide.settle()
    assert (after.looks, after.best_step, after.stop_reason) == (
        straight.looks,
        straight.best_step,
        straight.stop_reason,
    )
    assert all(torch.equal(a, b) for a, b in zip(one.parameters().values(), third.parameters().values(), strict=True))


def test_the_best_look_is_one_whose_error_has_not_risen() -> None:
    def best(*looks: HeldOutLook) -> int:
        return best_of(looks, max_error_rise=0.02, rows=1000)

    assert best(look(1, 0.6, 0.1), look(2, 0.8, 0.1), look(3, 0.8, 0.2)) == 2
    assert best(look(1, 0.6), look(2, 0.9, ratio=1.05)) == 0
    assert best(look(1, 0.6, ratio=1.05), look(2, 0.9, ratio=1.05)) == 1
    assert best(look(1, None, 0.2), look(2, None, 0.1)) == 0


@pytest.mark.parametrize(
    ("rows", "accuracies", "best"),
    [
        (40, (1.0, 0.975), 1),  # a single row
        (40, (1.0, 0.95), 0),
        (40, (0.8, 0.75), 1),  # a standard error is 0.063
        (400, (0.8, 0.75), 0),
        (3, (1.0, 2 / 3), 1),
    ],
)
def test_looks_that_differ_by_chance_are_told_apart_by_their_margin(
    rows: int, accuracies: tuple[float, float], best: int
) -> None:
    looks = [look(1, accuracies[0], 0.1), look(2, accuracies[1], 0.2)]
    assert best_of(looks, max_error_rise=0.02, rows=rows) == best


def test_a_share_of_the_change_is_looked_at_and_kept_where_that_is_asked_for() -> None:
    guide, told, learner = make_guide(*[look(step, 0.6) for step in (3, 6, 9, 12)], ema_decay=0.0, strength=0.5)

    def values(weights: dict[str, torch.Tensor], part: str) -> set[float]:
        return {number for name, weight in weights.items() if part in name for number in weight.unique().tolist()}

    go(guide, learner, losses={})
    assert values(told.seen, ".lora_B.") == {6.0}
    assert values(told.seen, ".lora_A.") == {12.0}
    assert value(learner) == 12.0, "what learns goes on as it was"
    guide.settle()
    kept = {name: weight.detach() for name, weight in learner.parameters().items()}
    assert values(kept, ".lora_B.") == {1.5}, "the first of equal looks"
    assert values(kept, ".lora_A.") == {3.0}


def test_falling_twice_is_in_a_row() -> None:
    assert fell_twice([look(1, 0.9), look(2, 0.8), look(3, 0.7)])
    assert not fell_twice([look(1, 0.9), look(2, 0.8), look(3, 0.8)])
    assert not fell_twice([look(1, 0.9), look(2, 0.8)])
