from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from core.domain.evaluation import Comparison, Measure, wilson
from worker.evaluation.comparison import compare, diversity, drift, fidelity
from worker.evaluation.composition import describe, distance, thumbnail
from worker.evaluation.easel import Drawn
from worker.evaluation.prompt import Task


class Brightness:
    """Likes what is bright, and understands prompts of one word."""

    name = "brightness"
    measures = Measure.FIDELITY

    def can_judge(self, prompt: str) -> bool:
        return " " not in prompt

    def score(self, pictures: Sequence[Image.Image], prompts: Sequence[str]) -> list[float]:
        return [float(np.asarray(each).mean()) / 255 for each in pictures]


def gray(level: int) -> Image.Image:
    return Image.new("RGB", (32, 32), (level, level, level))


def drawn(prompt: str, candidate: int, champion: int, seed: int = 0) -> Drawn:
    return Drawn(Task(prompt, seed), gray(candidate), gray(champion))


def test_wins_ties_and_losses_are_counted() -> None:
    rows = [drawn("a", 255, 0), drawn("b", 51, 51), drawn("c", 51, 0), drawn("d", 0, 51), drawn("not judged", 255, 0)]
    found = compare(Brightness(), rows, confidence=0.9, agreement=None)
    assert found is not None
    assert found.win_share == wilson(2.5, 4, 0.9)
    assert (found.candidate, found.champion) == pytest.approx((1.4 / 4, 0.4 / 4))
    assert compare(Brightness(), rows[-1:], confidence=0.9, agreement=None) is None


def test_fidelity_needs_every_prompt_understood() -> None:
    rows = [drawn("a", 255, 0), drawn("b", 0, 0)]
    assert fidelity(Brightness(), rows) == Comparison(candidate=0.5, champion=0.0)
    assert fidelity(Brightness(), [*rows, drawn("not judged", 0, 0)]) is None
    assert fidelity(Brightness(), []) is None


def test_drift_is_measured_in_distances_between_prompts() -> None:
    champions = {"a": 0, "b": 100}
    assert drift([drawn(prompt, level, level) for prompt, level in champions.items()]) == 0
    assert drift([drawn(prompt, level + 50, level) for prompt, level in champions.items()]) == pytest.approx(0.5)
    assert drift([drawn("a", 1, 0), drawn("a", 1, 9, seed=1)]) is None
    assert drift([]) is None


def test_diversity_is_the_distance_between_pictures_of_one_prompt() -> None:
    rows = [drawn("a", 0, 0), drawn("a", 51, 102, seed=1), drawn("b", 7, 0)]
    found = diversity(rows)
    assert found is not None
    assert (found.candidate, found.champion) == pytest.approx((0.2, 0.4))
    assert diversity(rows[1:]) is None


def test_a_distance_is_a_share_of_black_to_white() -> None:
    black, white = thumbnail(gray(0)), thumbnail(gray(255))
    assert (distance(black, black), distance(black, white)) == (0.0, 1.0)


def test_what_is_seen_of_a_picture_has_the_size_of_one_and_no_gaps() -> None:
    noise = Image.fromarray(np.random.default_rng(1).integers(256, size=(90, 50, 3), dtype=np.uint8))
    figures = describe([gray(0), gray(255), noise, noise.convert("L")])
    assert figures.shape == (4, 18)
    assert np.isfinite(figures).all() and (np.abs(figures) <= 1).all()


def test_the_subject_is_found_where_it_is() -> None:
    picture = gray(250)
    picture.paste((200, 0, 0), (2, 20, 8, 26))
    seen = describe([picture])[0]
    red, green, place_x, place_y = seen[0], seen[1], seen[10], seen[11]
    assert red > 0.7 > 0.1 > green
    assert place_x == pytest.approx(5 / 32, abs=0.02) and place_y == pytest.approx(23 / 32, abs=0.02)
