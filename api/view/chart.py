"""A small line chart as inline SVG: no script, no network."""

from collections.abc import Sequence
from html import escape

_WIDTH, _HEIGHT = 460, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 12, 28
_MOST_POINTS = 400
_TICKS = 4

Point = tuple[int, float]


def line_chart(points: Sequence[Point], *, title: str, bounds: tuple[float, float] | None = None) -> str:
    """Points (step, figure) in the order of their steps; `bounds` of the figures, their own where left out.

    Without points there is a sentence instead.
    """
    if not points:
        return f"<p class=missing>{escape(title)}: nothing was recorded.</p>"
    points = _thinned(points)
    low, high = bounds or (min(value for _, value in points), max(value for _, value in points))
    if high - low < 1e-12:
        low, high = low - 0.5, high + 0.5
    first, last = points[0][0], max(points[-1][0], points[0][0] + 1)

    def place(point: Point) -> tuple[float, float]:
        x = _LEFT + (point[0] - first) / (last - first) * (_WIDTH - _LEFT - _RIGHT)
        share = (min(max(point[1], low), high) - low) / (high - low)
        return round(x, 1), round(_HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM), 1)

    line = " ".join(f"{x:g},{y:g}" for x, y in map(place, points))
    marks = "".join(_mark(*place(point)) for point in points) if len(points) <= 2 * _TICKS * _TICKS else ""
    return (
        f'<figure><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">'
        f'{_grid(low, high)}{_steps(first, last)}<polyline class="line" points="{line}"/>{marks}</svg>'
        f"<figcaption>{escape(title)}</figcaption></figure>"
    )


def _thinned(points: Sequence[Point]) -> Sequence[Point]:
    """Means of neighbors, so that a long run is no heavy page."""
    size = -(-len(points) // _MOST_POINTS)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(group[-1][0], sum(value for _, value in group) / len(group)) for group in groups]


def _grid(low: float, high: float) -> str:
    drawn = ""
    for tick in range(_TICKS + 1):
        y = _HEIGHT - _BOTTOM - tick / _TICKS * (_HEIGHT - _TOP - _BOTTOM)
        value = low + tick / _TICKS * (high - low)
        drawn += f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:g}" y2="{y:g}"/>'
        drawn += f'<text x="{_LEFT - 6}" y="{y + 4:g}" text-anchor="end">{value:.3g}</text>'
    return drawn


def _steps(first: int, last: int) -> str:
    y = _HEIGHT - _BOTTOM + 18
    return (
        f'<text x="{_LEFT}" y="{y}">step {first}</text>'
        f'<text x="{_WIDTH - _RIGHT}" y="{y}" text-anchor="end">{last}</text>'
    )


def _mark(x: float, y: float) -> str:
    return f'<circle class="mark" cx="{x:g}" cy="{y:g}" r="3"/>'
