import time

import pytest

from worker.engine.weighted_text import Piece, parse_weights


@pytest.mark.parametrize(
    ("prompt", "pieces"),
    [
        ("a red star", [("a red star", 1.0)]),
        ("a (red:1.3) star", [("a ", 1.0), ("red", 1.3), (" star", 1.0)]),
        ("(red star: .5 )", [("red star", 0.5)]),
        ("a (red) star", [("a (red) star", 1.0)]),
        ("[blue] star", [("[blue] star", 1.0)]),
        ("(a:2)(b:2)", [("ab", 2.0)]),
        ("((a:2) b:2)", [("a", 4.0), (" b", 2.0)]),
        ("(a (b) c:1.5)", [("a (b) c", 1.5)]),
        (r"\(red:1.3\)", [("(red:1.3)", 1.0)]),
        (r"(a\)b:1.5)", [("a)b", 1.5)]),
        (r"a\b", [(r"a\b", 1.0)]),
        ("(red:" + " " * 9_000 + "1.3 )", [("red", 1.3)]),
        ("(red:1.3", [("(red:1.3", 1.0)]),
        ("red:1.3)", [("red:1.3)", 1.0)]),
        ("(red:-1)", [("(red:-1)", 1.0)]),
        ("(red:)", [("(red:)", 1.0)]),
        ("(red:.)", [("(red:.)", 1.0)]),
        ("(16:9)", [("16", 9.0)]),
        ("(red:1e9)", [("(red:1e9)", 1.0)]),
        ("(red:99999)", [("red", 10.0)]),
        ("(:1.3)", []),
        ("()", [("()", 1.0)]),
        ("", []),
        ("  ", []),
    ],
)
def test_weights_are_read(prompt: str, pieces: list[tuple[str, float]]) -> None:
    assert [(piece.text, piece.weight) for piece in parse_weights(prompt)] == pieces


@pytest.mark.parametrize(
    "prompt",
    ["(" * 10_000, ")" * 10_000, "(a:" * 3_333, ":" * 10_000, "(" + "1" * 9_998 + ")", "(:" + " " * 9_000 + "x)"],
)
def test_hostile_prompts_are_literal_text(prompt: str) -> None:
    assert parse_weights(prompt) == [Piece(prompt)]


def test_deep_nesting_takes_no_recursion() -> None:
    depth = 1_400
    started = time.process_time()
    assert parse_weights("(" * depth + "a" + ":1.001)" * depth)[0].text == "a"
    assert time.process_time() - started < 60  # a guard against exponential time, not a measurement
