"""A plot of how something grows: both axes by powers of ten, as an SVG of its own."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

_WIDE: Final = 360
_HIGH: Final = 240
_MARGIN: Final = 90
_COLOURS: Final = ("#0b7285", "#d9480f", "#5f3dc4", "#495057")
Points = Sequence[tuple[float, float]]


def growth(panels: Mapping[str, Mapping[str, Points]]) -> str:
    """One panel beside another, each with its title and named lines of points, all above 0."""
    drawn = [_panel(title, lines, at * (_WIDE + 2 * _MARGIN)) for at, (title, lines) in enumerate(panels.items())]
    wide, high = len(panels) * (_WIDE + 2 * _MARGIN), _HIGH + 2 * _MARGIN
    style = f'viewBox="0 0 {wide} {high}" font-family="sans-serif" font-size="12"'
    ground = f'<rect width="{wide}" height="{high}" fill="#fff"/>'
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {style}>', ground, *drawn, "</svg>\n"])


def _panel(title: str, lines: Mapping[str, Points], left: int) -> str:
    across, up = (_Scale([point[axis] for points in lines.values() for point in points]) for axis in (0, 1))
    grid = [
        _tick(f"M{across(power, _WIDE)} 0v{_HIGH}", across(power, _WIDE), _HIGH + 18, power) for power in across.powers
    ]
    grid += [
        _tick(f"M0 {_HIGH - up(power, _HIGH)}h{_WIDE}", -26, _HIGH - up(power, _HIGH) + 4, power) for power in up.powers
    ]
    drawn = [
        _line(name, [(across(x, _WIDE), _HIGH - up(y, _HIGH)) for x, y in points], colour)
        for (name, points), colour in zip(lines.items(), _COLOURS, strict=False)
    ]
    place = f'<g transform="translate({left + _MARGIN},{_MARGIN})">'
    return "\n".join([place, f'<text y="-24" font-weight="bold">{escape(title)}</text>', *grid, *drawn, "</g>"])


def _line(name: str, dots: Points, colour: str) -> str:
    path = " ".join(f"{x},{y}" for x, y in dots)
    marks = "".join(f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>' for x, y in dots)
    x, y = dots[-1]
    text = f'<text x="{x + 8}" y="{y + 4}" fill="{colour}">{escape(name)}</text>'
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>{marks}{text}'


def _tick(line: str, x: float, y: float, power: float) -> str:
    return f'<path d="{line}" stroke="#dee2e6"/><text x="{x}" y="{y}" text-anchor="middle">{power:,.12g}</text>'


class _Scale:
    """Where a number lies, by its logarithm, between the powers of ten about all of them."""

    def __init__(self, numbers: Sequence[float]) -> None:
        self._first, self._last = math.floor(math.log10(min(numbers))), math.ceil(math.log10(max(numbers)))
        self.powers = [10.0**power for power in range(self._first, self._last + 1)]

    def __call__(self, number: float, length: int) -> float:
        return round((math.log10(number) - self._first) * length / max(1, self._last - self._first), 1)
