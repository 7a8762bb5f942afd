"""`lorikeet admin limits`: what is typed, read."""

from collections.abc import Sequence

from cli.refusal import Refusal
from core.domain.limit import LIMIT_NAMES

_AS_IN_SETTINGS = "default"


def read_changes(pairs: Sequence[str]) -> dict[str, float | None]:
    """NAME=NUMBER pairs by name; None for `default`.

    Raises:
        Refusal: no such limit, or no such number.
    """
    changes: dict[str, float | None] = {}
    for pair in pairs:
        name, _, word = pair.partition("=")
        if name not in LIMIT_NAMES:
            raise Refusal(f"There is no limit {name}. There are {', '.join(LIMIT_NAMES)}.")
        changes[name] = None if word == _AS_IN_SETTINGS else _number(pair, word)
    return changes


def _number(pair: str, word: str) -> float:
    try:
        number = float(word)
    except ValueError:
        number = -1.0
    if not number >= 0:  # NaN is not, either
        raise Refusal(f"{pair}: a limit is a number from 0 up, inf for none, or {_AS_IN_SETTINGS}.")
    if pair.startswith("share=") and not 0.01 <= number <= 100:
        raise Refusal(f"{pair}: a share is a number from 0.01 to 100, or {_AS_IN_SETTINGS}, which is 1.")
    return number
