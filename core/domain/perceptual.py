"""How alike two pictures look, from the hashes of their thumbnails."""

SIDE = 8
LEVELS = 16


def distance(one: str, other: str) -> float:
    """Root mean square difference of two hashes' levels: 0 for the same thumbnail, 1 for black and white.

    A hash is the 8x8 RGB thumbnail of a picture, row by row, a hexadecimal digit for each channel's level. Squares let
    a small star of another color count for more than noise all over the picture. Hashes of different lengths have
    nothing in common.
    """
    if len(one) != len(other) or not one:
        return 1.0
    squares = sum((a - b) ** 2 for a, b in zip(_levels(one), _levels(other), strict=True))
    return float((squares / len(one)) ** 0.5 / (LEVELS - 1))


def _levels(digest: str) -> bytes:
    return bytes.fromhex("0" + "0".join(digest))
