"""Line charts as SVG text, small enough to read in a diff."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

_WIDTH, _HEIGHT = 640, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 168, 32, 40
_COLORS = ("#1b6ca8", "#c8553d", "#3a7d44", "#8e6c8a", "#b8860b", "#444444")
_TICKS = 5
_SPACE = 'xmlns="http://www.w3.org/2000/svg"'


@dataclass(frozen=True, slots=True)
class Line:
    """Points (x, y), in order of x."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines over one x axis that begins at 0; `target` is drawn as a dashed level."""

    title: str
    x_name: str
    y_name: str
    lines: Sequence[Line]
    y_top: float = 1.0
    target: float | None = None


def save(chart: Chart, path: Path) -> None:
    """Write the chart."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(draw(chart))


def draw(chart: Chart) -> str:
    """The chart as one SVG element."""
    widest = max(x for line in chart.lines for x, _ in line.points) or 1.0
    parts = [
        f'<svg {_SPACE} viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="12" role="img">',
        f"<title>{escape(chart.title)}</title>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        _text(_LEFT, 18, chart.title, weight="bold"),
        *_axes(chart, widest),
    ]
    if chart.target is not None:
        y = _y(chart.target, chart)
        parts.append(_level(y, 'stroke="#888" stroke-dasharray="5 4"'))
    for index, line in enumerate(chart.lines):
        parts += _line(line, index, chart, widest)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _axes(chart: Chart, widest: float) -> list[str]:
    parts = []
    for tick in range(_TICKS + 1):
        y_value, x_value = chart.y_top * tick / _TICKS, widest * tick / _TICKS
        x, y = _x(x_value, widest), _y(y_value, chart)
        parts += [
            _level(y, 'stroke="#e4e4e4"'),
            _text(_LEFT - 6, y + 4, f"{y_value:.3g}", anchor="end"),
            _text(x, _HEIGHT - _BOTTOM + 16, f"{x_value:.4g}", anchor="middle"),
        ]
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    return [*parts, _text(middle, _HEIGHT - 8, chart.x_name, anchor="middle"), _text(_LEFT, _TOP - 2, chart.y_name)]


def _line(line: Line, index: int, chart: Chart, widest: float) -> list[str]:
    color = _COLORS[index % len(_COLORS)]
    points = " ".join(f"{_x(x, widest):.1f},{_y(y, chart):.1f}" for x, y in line.points)
    top = _TOP + 12 + 18 * index
    left = _WIDTH - _RIGHT + 10
    return [
        f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2"/>',
        f'<line x1="{left}" x2="{left + 18}" y1="{top}" y2="{top}" stroke="{color}" stroke-width="2"/>',
        _text(left + 24, top + 4, line.name),
    ]


def _level(y: float, stroke: str) -> str:
    return f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" {stroke}/>'


def _x(value: float, widest: float) -> float:
    return _LEFT + value / widest * (_WIDTH - _LEFT - _RIGHT)


def _y(value: float, chart: Chart) -> float:
    share = min(max(value / chart.y_top, 0.0), 1.0)
    return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - 10 - _BOTTOM)


def _text(x: float, y: float, words: str, *, anchor: str = "start", weight: str = "normal") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}">{escape(words)}</text>'
