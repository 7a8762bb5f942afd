"""The ways in which a training's runs end: as many kill -9s as were asked for, whatever else comes."""

from collections import Counter
from random import Random

from chaos.point import OF_CHECKPOINT
from chaos.training import draw_ways


def test_a_sigterm_is_no_kill() -> None:
    ways = Counter(draw_ways(200, Random(1)))
    assert ways.total() - ways["SIGTERM"] == 200
    assert ways["SIGTERM"] > 0
    assert len(ways) == len(OF_CHECKPOINT) + 3
    assert draw_ways(200, Random(1)) == draw_ways(200, Random(1))
