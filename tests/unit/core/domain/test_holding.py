import json
from uuid import uuid4

from core.domain.holding import NOTHING, Holding, Residency, read_holding

HOLDING = Holding(models={uuid4(): "sd", uuid4(): "sdxl"}, adapters={"host": Residency(2, 3000, 5, 3)})


def test_it_comes_back_from_json_as_it_was() -> None:
    assert read_holding(json.loads(json.dumps(HOLDING.to_json()))) == HOLDING


def test_nothing_is_what_a_worker_that_never_said_holds() -> None:
    assert read_holding({}) == NOTHING


def test_what_a_newer_worker_adds_is_passed_over() -> None:
    written = HOLDING.to_json() | {"later": 1}
    written["adapters"]["host"] |= {"later": 1}
    assert read_holding(written) == HOLDING


def test_the_hit_rate_is_a_share_of_the_questions() -> None:
    assert HOLDING.adapters["host"].hit_rate == 5 / 8
    assert Residency(0, 0, 0, 0).hit_rate is None
