"""Bar charts as SVG text: what each side of a bench did, ours in a color of its own."""

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape

_WIDTH, _NAMES, _BAR, _GAP, _TOP = 720, 250, 16, 8, 34
_ROOM_FOR_VALUES = 90
_OURS, _OTHERS = "#1b6ca8", "#b9c4cc"
_SPACE = 'xmlns="http://www.w3.org/2000/svg"'


@dataclass(frozen=True, slots=True)
class Bars:
    """`values` by side; those of `ours` stand out."""

    title: str
    unit: str
    values: Mapping[str, float]
    ours: frozenset[str]


def draw(bars: Bars) -> str:
    """The chart as one SVG element, the longest bar as wide as there is room."""
    height = _TOP + len(bars.values) * (_BAR + _GAP) + _GAP
    longest = max(bars.values.values(), default=1.0) or 1.0
    parts = [
        f'<svg {_SPACE} viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" font-size="12" role="img">',
        f"<title>{escape(bars.title)}</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        f'<text x="8" y="20" font-weight="bold">{escape(f"{bars.title}, {bars.unit}")}</text>',
    ]
    for number, (side, value) in enumerate(bars.values.items()):
        top = _TOP + number * (_BAR + _GAP)
        width = value / longest * (_WIDTH - _NAMES - _ROOM_FOR_VALUES)
        color = _OURS if side in bars.ours else _OTHERS
        parts += [
            f'<text x="{_NAMES - 8}" y="{top + 12}" text-anchor="end">{escape(side)}</text>',
            f'<rect x="{_NAMES}" y="{top}" width="{width:.1f}" height="{_BAR}" fill="{color}"/>',
            f'<text x="{_NAMES + width + 6:.1f}" y="{top + 12}">{value:.3g}</text>',
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"
