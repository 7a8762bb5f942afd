"""`a (red:1.3) star` → pieces of text, each with its weight."""

import re
from dataclasses import dataclass

MAX_WEIGHT = 10.0
_PART = re.compile(r"\\[()]|[()]|[^()\\]+|\\")
_WEIGHT = re.compile(r"\+?(\d{0,6}\.?\d{0,6})")


@dataclass
class Piece:
    """A stretch of a prompt; 1.0 is neither stressed nor played down."""

    text: str
    weight: float = 1.0


def parse_weights(prompt: str) -> list[Piece]:
    r"""Read the weights of a prompt, in time linear in its length but for nesting.

    `(text:1.3)` is the one form; where they nest, weights multiply. Parentheses without a weight are text like any
    other, and so is whatever is not closed. `\(` and `\)` are parentheses even before a weight. Weights above
    MAX_WEIGHT count as MAX_WEIGHT. Neighbors of one weight are one piece; a prompt without words gives no piece.
    """
    pieces: list[Piece] = []
    open_at: list[int] = []
    for part in _PART.findall(prompt):
        if part == "(":
            open_at.append(len(pieces))
        elif part == ")" and open_at:
            start = open_at.pop()
            if _weigh(pieces, start):
                continue
        pieces.append(Piece(part.removeprefix("\\") if len(part) == 2 else part))
    return _joined(pieces)


def _weigh(pieces: list[Piece], start: int) -> bool:
    """Where the last piece ends in `:number`, give that weight to all since the parenthesis at `start`."""
    text, colon, number = pieces[-1].text.rpartition(":")
    match = _WEIGHT.fullmatch(number.strip())
    if len(pieces) - 1 == start or not colon or not match or not match[1].strip("."):
        return False
    pieces[-1].text = text
    pieces[start].text = ""
    for piece in pieces[start + 1 :]:
        piece.weight = min(piece.weight * float(match[1]), MAX_WEIGHT)
    return True


def _joined(pieces: list[Piece]) -> list[Piece]:
    joined: list[Piece] = []
    for piece in pieces:
        if joined and joined[-1].weight == piece.weight:
            joined[-1] = Piece(joined[-1].text + piece.text, piece.weight)
        elif piece.text:
            joined.append(piece)
    return [piece for piece in joined if piece.text.strip()]
