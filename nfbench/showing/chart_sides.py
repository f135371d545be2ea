"""What charts of rows share: names and values on both sides of what is drawn, and what their marks are called."""

from __future__ import annotations

from collections.abc import Sequence

from nfbench.showing import chart
from nfbench.showing.chart import Chart, Line, Screen

ABOVE_0 = 1e-300
"""The least of what no clock gives as 0."""
_ROOM = 24
"""Cells that names leave to bars."""


class Sides:
    """Names to the left and values to the right of bars, and the ``room`` between them."""

    def __init__(self, screen: Screen, names: Sequence[str], values: Sequence[str]) -> None:
        self.screen = screen
        self.right, ends = screen.names(values, screen.width * 2 // 5)
        self.left, self.names = screen.names(names, max(screen.width // 4, screen.width - ends - 4 - _ROOM))
        self.room = min(screen.width - self.names - ends - 4, chart.WIDEST)

    def line(self, i: int, middle: Line) -> Line:
        used = sum(chart.wide(text) for text, _ in middle)
        name = chart.padded(self.left[i], self.names)
        return [(f"{name}  ", ""), *middle, (" " * (self.room - used + 2) + self.right[i], "")]


def interval(screen: Screen) -> str:
    """What the ends of an interval are, for the line below a chart."""
    opening, line, _, closing = screen.glyphs.whisker
    return f"{opening}{line}{closing} 95 % interval"


def holds(body: Chart, *marks: str) -> bool:
    """Whether any of ``marks`` is among what is drawn, which has a style."""
    return any(mark in text for line in body for text, style in line for mark in marks if style)
