"""What the figures of sweeps share: lines over batch sizes, and below them a strip for what has no value."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator
from matplotlib.transforms import blended_transform_factory

from nfbench import units
from nfbench.showing.strip import LETTERS, mark, strip
from nfbench.showing.style import COLUMN, plain

MOST_LINES = 12
MOST_FIGURES = 12
"""Figures of one kind: what is in none of them is left out."""
DASHES: tuple[Any, ...] = ("-", "--", ":", "-.", (0, (6, 1, 1, 1, 1, 1)), (0, (1, 3)))
_ACROSS = COLUMN - 0.9
"""Inches that an axis is about wide."""
_TICK, _LETTER = 0.52, 0.08
"""Inches that the text of a tick is wide, and a digit of it."""
_NAME = 44
_SEVERAL = "Of several values at one place a line leads through the lowest."


class Look(NamedTuple):
    """What a line is drawn as: by family, and the dash, and how its markers are filled, tell its nets apart."""

    colour: str
    marker: str
    dash: Any
    fill: Literal["full", "left", "right", "bottom", "top"] = "full"


class Point(NamedTuple):
    """A value at ``x`` with its interval; ``half`` where it was reached in another way than the rest."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    half: bool = False


class Failed(NamedTuple):
    """What has no value at ``x``, or only some seeds have: ``what`` for the legend, ``text`` beside the mark."""

    x: float
    what: str
    text: str = ""


class Line(NamedTuple):
    """A net over the sweep."""

    name: str
    look: Look
    points: Sequence[Point]
    failed: Sequence[Failed] = ()


class Scale(NamedTuple):
    """A y axis: its label, how ticks read, and its base where it is logarithmic (0: chosen by the range, from 0)."""

    label: str
    text: Callable[[float], str]
    base: int = 0


class Across(NamedTuple):
    """The x axis: its label, and the places and texts of its ticks where it is no logarithmic one of batches."""

    label: str
    places: Sequence[float] = ()
    texts: Sequence[str] = ()


BATCH = Across("batch, images an update")


def draw(
    lines: Sequence[Line],
    scale: Scale,
    title: str,
    note: str = "",
    half: str = "",
    below: float = 0.0,
    across: Across = BATCH,
    said: str | None = None,
) -> tuple[Figure, Axes, Any]:
    """The figure, its axes, and the place in the grid for a panel of ``below`` inches, None without.

    What the lines are, measured or reported, is ``said`` above the legend where a panel shows the other.
    """
    failing = [line for line in lines if line.failed]
    marks = list(dict.fromkeys(f.what for line in failing for f in line.failed))
    handles = [handle(line.name, line.look) for line in lines]
    if half and any(point.half for line in lines for point in line.points):
        handles.append(Line2D([], [], color="black", marker="o", fillstyle="bottom", linestyle="none", label=half))
    handles += [Line2D([], [], color="black", linestyle="none", label=m, **mark(marks, m)) for m in marks]
    columns, deep = columns_of(handles)
    deep += said is not None
    heights = [2.5, 0.14 + 0.17 * len(failing) if failing else 0.01, 0.1 + 0.16 * deep, max(below, 0.01)]
    figure = Figure(figsize=(COLUMN, sum(heights) + 0.3), layout="constrained")
    several = any(len({point.x for point in line.points}) < len(line.points) for line in lines)
    entitle(figure, title, f"{note} {_SEVERAL}".strip() if several else note)
    grid = figure.add_gridspec(4, 1, height_ratios=heights)
    axes = figure.add_subplot(grid[0])
    for line in lines:
        _line(axes, line)
    x = sorted({p.x for line in lines for p in line.points} | {f.x for line in lines for f in line.failed})
    _y_axis(axes, scale, [v for line in lines for p in line.points for v in (p.y, p.low, p.high) if v is not None])
    _x_axis(axes, x, across)
    last = axes
    if failing:
        last = figure.add_subplot(grid[1], sharex=axes)
        strip(last, failing, marks)
        axes.tick_params(axis="x", labelbottom=False)
    last.set_xlabel(across.label)
    legend(figure.add_subplot(grid[2]), handles, columns, said)
    return figure, axes, grid[3] if below else None


def entitle(figure: Figure, title: str, note: str = "") -> None:
    """Write the title and the foot, each in as many lines as the figure's width asks for, and make room for them."""
    wide, high = figure.get_size_inches()
    above, below = (textwrap.wrap(text, int(wide * each)) for text, each in ((title, 14.2), (note, LETTERS)))
    figure.set_size_inches(wide, high + 0.16 * len(above) + 0.13 * len(below))
    figure.suptitle("\n".join(above), x=0.01, ha="left", fontsize=9)
    if below:
        figure.supxlabel("\n".join(below), x=0.01, ha="left", fontsize=7)


def handle(name: str, look: Look, **more: Any) -> Line2D:
    """A line's entry in a legend."""
    style = {"color": look.colour, "marker": look.marker, "linestyle": look.dash, "linewidth": 1.2, "markersize": 5}
    style |= {"fillstyle": look.fill, "markerfacecoloralt": "white"}
    return Line2D([], [], label=plain(name, _NAME), **(style | more))


def columns_of(handles: Sequence[Line2D], width: float = COLUMN) -> tuple[int, int]:
    """The columns that a legend has room for in ``width`` inches, and the lines that it takes."""
    longest = max((len(str(h.get_label())) for h in handles), default=1)
    columns = max(1, min(len(handles), int((width - 0.1) / (0.52 + 0.053 * longest))))
    return columns, math.ceil(len(handles) / columns)


def legend(axes: Axes, handles: Sequence[Line2D], columns: int, title: str | None = None) -> None:
    """Fill an axes with nothing but a legend."""
    axes.axis("off")
    # centred in the figure: the labels of an axis above leave this one narrower
    across = blended_transform_factory(axes.figure.transFigure, axes.transAxes)
    axes.legend(
        handles=handles,
        loc="center",
        bbox_to_anchor=(0.5, 0.5),
        bbox_transform=across,
        ncols=columns,
        fontsize=7,
        frameon=False,
        handlelength=3.0,
        columnspacing=1.2,
        title=title,
        title_fontsize=7,
    ).set_in_layout(False)


def log_axis(
    axis: Axis, values: Sequence[float], text: Callable[[float], str], base: int, least: float, inches: float = 4.0
) -> None:
    """Make ``axis`` logarithmic, at least ``least`` powers of ``base`` wide; as many ticks as fit ``inches``."""
    low, high = math.log(min(values), base), math.log(max(values), base)
    room = max(0.08 * (high - low), (least - high + low) / 2)
    low, high = low - room, high + room
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})  # type: ignore[attr-defined]
    axis._set_lim(float(base) ** low, float(base) ** high, auto=None)  # type: ignore[attr-defined]
    if base == 10:
        room = inches / (high - low) / (_TICK if axis.axis_name == "x" else _TICK / 2)  # type: ignore[attr-defined]
        axis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5) if room > 3 else (1, 3) if room > 2 else (1,)))
    else:
        every = max(1, math.ceil((high - low) / 9))
        powers = range(math.ceil(low), math.floor(high) + 1)
        axis.set_major_locator(FixedLocator([float(base) ** p for p in powers if p % every == 0]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, _: text(value))


def accuracy_axis(axes: Axes, values: Sequence[float], room: float = 0.1) -> None:
    """Limits of a y axis of per cent around ``values``, with ``room`` of their range, hardly beyond 0 and 100."""
    low, high = min(values, default=0.0), max(values, default=100.0)
    more = max(room * (high - low), 0.5)
    beyond = 0.03 * (high - low + more)
    axes.set_ylim(max(-beyond, low - more), min(100 + beyond, high + more))


def number(value: float) -> str:
    """A bare number on an axis."""
    return f"{value:,.0f}" if 1 <= value < 1e5 and value == int(value) else units.si(value, "", 2).rstrip()


def _line(axes: Axes, line: Line) -> None:
    points = sorted(line.points, key=lambda point: (point.x, point.y))
    colour, marker, dash, fill = line.look
    once = list({p.x: p for p in reversed(points)}.values())[::-1]
    axes.plot([p.x for p in once], [p.y for p in once], color=colour, linestyle=dash, linewidth=1.2, zorder=2)
    for half in (False, True):
        some = [p for p in points if p.half is half]
        if some:
            (drawn,) = axes.plot([p.x for p in some], [p.y for p in some], color=colour, marker=marker, zorder=3)
            # a half is told at this size
            drawn.set(markersize=5.5 if fill == "full" else 7, markerfacecoloralt="none" if half else "white")
            drawn.set(linestyle="none", fillstyle="bottom" if half else fill, label=f"_{plain(line.name, _NAME)}")
    bars = [(p.x, p.low, p.high) for p in points if p.low is not None and p.high is not None]
    if bars:
        axes.vlines(*zip(*bars, strict=True), color=colour, linewidth=1.4, zorder=2)


def _x_axis(axes: Axes, values: Sequence[float], across: Across) -> None:
    if across.places:
        small = _LETTER * (max(map(len, across.texts)) + 1) * len(across.texts) > _ACROSS
        axes.set_xticks(across.places, across.texts, fontsize=7 if small else None)
        axes.set_xlim(across.places[0] - 0.35, across.places[-1] + 0.35)
        return
    axes.set_xscale("log", base=2)
    low, high = math.log2(values[0]), math.log2(values[-1])
    room = max(0.05 * (high - low), 0.35)
    axes.set_xlim(2 ** (low - room), 2 ** (high + room))
    octave = _ACROSS / (high - low + 2 * room)
    ticks: list[float] = []
    for value in values:
        between = _LETTER * (len(number(value)) + len(number(ticks[-1])) + 2) / 2 if ticks else 0.0
        if not ticks or math.log2(value / ticks[-1]) * octave >= between:
            ticks.append(value)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: number(value))


def _y_axis(axes: Axes, scale: Scale, values: Sequence[float]) -> None:
    axes.set_ylabel(scale.label)
    if scale.base == 100:
        accuracy_axis(axes, values)
    elif scale.base or max(values) > 8 * min(values):
        base = scale.base or 10
        log_axis(axes.yaxis, values, scale.text, base, least=1.0 if base == 10 else 3.0)
    else:
        axes.set_ylim(0, 1.08 * max(values))
        axes.yaxis.set_major_formatter(lambda value, _: scale.text(value) if value else "0")
