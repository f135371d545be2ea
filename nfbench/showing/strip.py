"""The strip below the lines of a sweep: a row for each line with what has no value, such as what did not fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes

from nfbench.showing.labels import dark
from nfbench.showing.style import COLUMN

if TYPE_CHECKING:
    from nfbench.showing.sweep_lines import Line

LETTERS = 18.5
"""Letters of 7 points that an inch has room for."""
_ACROSS = COLUMN - 0.9
"""Inches that an axis is about wide."""


def mark(marks: Sequence[str], what: str) -> dict[str, Any]:
    """How ``what`` is drawn, one of all ``marks``."""
    return {"marker": ("x", "+", "1", "2", "3", "4")[marks.index(what) % 6], "markersize": 6}


def strip(axes: Axes, lines: Sequence[Line], marks: Sequence[str]) -> None:
    """A row for each line, told by a piece of it at the left, since names are long."""
    beside = axes.get_yaxis_transform()
    for place, line in enumerate(lines):
        colour, marker, dash, fill = line.look
        axes.plot(
            [-0.095, -0.055, -0.015],
            [place] * 3,
            color=colour,
            linestyle=dash,
            linewidth=1.2,
            marker=marker,
            markersize=4.5,
            fillstyle=fill,
            markerfacecoloralt="white",
            markevery=[1],
            transform=beside,
            clip_on=False,
            label="_sample",
        )
        said: dict[tuple[str, float], dict[str, None]] = {}
        for failed in line.failed:
            said.setdefault((failed.what, failed.x), {})[failed.text] = None
        for what in dict.fromkeys(what for what, _ in said):
            x = [at for each, at in said if each == what]
            axes.plot(x, [place] * len(x), color=colour, linestyle="none", **mark(marks, what))
        _say(axes, place, colour, {x: "; ".join(filter(None, texts)) for (_, x), texts in said.items()})
    axes.set_yticks([])
    axes.set_ylim(len(lines) - 0.4, -0.6)


def _say(axes: Axes, place: int, colour: str, texts: dict[float, str]) -> None:
    """The texts of a row of the strip beside their marks, where there is room up to the next."""
    to_fraction = axes.transScale + axes.transLimits
    at = {x: float(to_fraction.transform((x, 1.0))[0]) for x in sorted(texts)}
    ends = [0.0, *at.values(), 1.0]
    for i, (x, here) in enumerate(at.items(), 1):
        wide = (0.14 + len(texts[x]) / LETTERS) / _ACROSS
        side = 1 if ends[i + 1] - here > wide else -1 if here - ends[i - 1] > 2 * wide else 0
        if texts[x] and side:
            axes.annotate(
                texts[x],
                (x, place),
                xytext=(5 * side, 0),
                textcoords="offset points",
                fontsize=7,
                ha="left" if side > 0 else "right",
                va="center",
                color=dark(colour),
            ).set_in_layout(False)
