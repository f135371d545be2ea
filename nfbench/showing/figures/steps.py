"""Every step of a run in the order in which they were timed, found again from its readings."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.artist import Artist
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from nfbench import units
from nfbench.analysis import stats
from nfbench.analysis.metrics import step_time
from nfbench.analysis.rows import Row
from nfbench.analysis.stats import Estimate
from nfbench.records import MAX_KEPT_STEPS, PHASES, Result
from nfbench.showing.figures.canvas import Picture, bare, entry, log_axis, near_axis, panel
from nfbench.showing.figures.style import PAGE, drawable, look, plain, series

_CLOSE = 1e-3
"""The share of a block by which the steps in it may miss its time."""
_WARM_UP = 20
"""Steps of the warm-up that there is always room for."""
_BEGINS = 60
"""Places of blocks up to which they are drawn."""
_LOG = 4
"""How many times the median the longest must take for a logarithmic axis."""
_GREY = "#8A8A8A"


def steps(rows: list[Row], notes: list[str]) -> Picture | None:
    """Seconds of every step of a run; None without one that can be drawn."""
    result: Result = rows[0]["result"]
    line = timeline(result)
    if line is None:
        return None
    figure, axes = panel(2.7, PAGE)
    what, whole = ("pass", "update") if result.composed else ("step", "block")
    an = "an" if result.composed else "a"
    colour = look(series(rows[0]["model"], rows[0].get("family"))[1])[0]
    size = 4 if len(line.timed) <= 200 else 2 if len(line.timed) <= 500 else 1.3
    handles: list[Artist] = []
    for points, text, shade, marker in (
        (line.timed, what, colour, "o"),
        (line.apart, f"first {what} of {an} {whole} (not in the median)", "black", "^"),
        (line.warm_up, "warm-up", _GREY, "x"),
    ):
        if points:
            style = {"color": shade, "marker": marker, "linestyle": "none", "label": text, "zorder": 3}
            x, y = [p.x for p in points], [1e3 * p.seconds for p in points]
            handles += axes.plot(x, y, markersize=size if marker == "o" else max(size, 3), **style)  # type: ignore[arg-type]
    value, low, high = line.middle
    ends = [0.5, line.end + 0.5]
    (median,) = axes.plot(ends, [1e3 * value] * 2, color="black", linewidth=1, zorder=4)
    median.set_label(f"median {units.seconds(value, 3)}")
    handles.insert(1, median)
    if low is not None and high is not None:
        axes.fill_between(ends, 1e3 * low, 1e3 * high, color=_GREY, alpha=0.35, linewidth=0, zorder=2)
        handles.insert(2, Patch(facecolor=_GREY, alpha=0.35, label="its 95 % interval"))
    if 0 < len(line.begins) <= _BEGINS:
        dashed = {"color": _GREY, "linestyle": "--", "linewidth": 0.7}
        for place in line.begins:
            axes.axvline(place - 0.5, zorder=1, **dashed)
        handles.append(entry(f"{an} {whole} begins", **dashed))
    axes.grid(visible=False, axis="x")
    axes.set_xlabel(f"{what} of the window")
    axes.set_ylabel(f"time of a {what}, ms")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    first = min([1.0, *(p.x for p in line.warm_up)])
    axes.set_xlim(first - 0.7 - 0.01 * line.end, line.end + 0.7 + 0.01 * line.end)
    values = [1e3 * p.seconds for p in (*line.timed, *line.apart, *line.warm_up)]
    if max(values) > _LOG * statistics.median(values):
        log_axis(axes.yaxis, values, bare)
    else:
        near_axis(axes.yaxis, values)
    title = f"every {what} of {plain(result.step.model, 40)}, measured: {_settings(result)}"
    return Picture(figure, title, _note(result, line), handles)


def _settings(result: Result) -> str:
    parts = [f"batch {result.step.batch}"]
    if (resolved := result.resolved) is not None:
        parts += [f"{resolved.px} px", resolved.precision, resolved.layout]
    parts += [f"{result.step.world_size} devices, the slowest of each step"] if result.step.world_size > 1 else []
    parts += [f"round {result.round + 1}"] if result.round else []
    parts += [f"turn {result.turn + 1}"] if result.turn else []
    return ", ".join([*parts, plain(result.start, 24), *([result.status] if result.status != "ok" else [])])


def _note(result: Result, line: Timeline) -> str:
    parts = list(line.notes)
    if line.middle.low is None:
        parts.append("The median has no interval: the steps are too few, or depend too much on each other.")
    if result.conditions.throttle:
        parts.append(f"The card was throttled: {plain(', '.join(result.conditions.throttle), 200)}.")
    return " ".join([*parts, "The y axis need not start at 0."])


class Update(NamedTuple):
    """An update, or a pass, by its number in the window (0 and below: before it), and its seconds."""

    x: float
    seconds: float


class Timeline(NamedTuple):
    """A window: what was timed, what was kept apart (the first of each block), the warm-up before it, the places where
    a block or a composed update begins, the number of the last update, and the middle of what was timed."""

    timed: list[Update]
    apart: list[Update]
    warm_up: list[Update]
    begins: list[float]
    end: float
    middle: Estimate
    notes: list[str]


def timeline(result: Result) -> Timeline | None:
    """The updates of ``result``, or its passes where the step is composed of them; None without one that can be drawn.

    Of several ranks the slowest counts in each update; passes are rank 0's.
    """
    return _passes(result) if result.composed else _steps(result)


def _steps(result: Result) -> Timeline | None:
    middle = step_time(result)
    ranks = [r.values for r in result.each("step_time")]
    if middle is None or not drawable(middle.value) or not ranks:
        return None
    slowest = [None if None in step else max(v for v in step if v is not None) for step in zip(*ranks, strict=False)]
    every = _every(result, len(slowest))
    refills, blocks = (_values(result, name) for name in ("refill", "block_time"))
    counts = None if every > 1 else _counts([v or 0.0 for v in ranks[0]], refills, blocks)
    places, apart, begins, at = [], [], [], 1
    if counts is None:
        places = [1.0 + every * i for i in range(len(slowest))]
        at += every * len(slowest)
    else:
        first = len(refills) // len(counts)
        for number, count in enumerate(counts):
            begins.append(float(at))
            apart += [Update(at + i, t) for i, t in enumerate(refills[number * first : (number + 1) * first])]
            places += [float(at + first + i) for i in range(count)]
            at += first + count
    timed = [Update(x, t) for x, t in zip(places, slowest, strict=True) if t is not None and drawable(t)]
    notes = [f"Of {result.value('steps') or 0:,.0f} steps one in {every} was kept."] if every > 1 else []
    if counts is None and refills:
        notes.append("The first step of each block is not drawn: where the blocks begin is not known.")
    warm_up = _warm_up(result, len(timed), notes)
    apart = [p for p in apart if drawable(p.seconds)]
    return Timeline(timed, apart, warm_up, begins[1:], at - 1, middle, notes) if timed else None


def _passes(result: Result) -> Timeline | None:
    phases = [r for r in result.readings if r.rank == 0 and r.name in PHASES and r.scope == "micro_step"]
    times = [sum(t) for t in zip(*(r.finite for r in phases), strict=False)]
    timed = [Update(i, t) for i, t in enumerate(times, 1) if drawable(t)]
    passes = round(result.value("passes") or 0)
    if step_time(result) is None or not timed or passes < 1:
        return None
    begins = [float(x) for x in range(1 + passes, len(times) + 1, passes)]
    notes = [f"Composed: the step is put together from updates of {passes} passes; each point is a pass."]
    return Timeline(timed, [], [], begins, len(times), stats.median([p.seconds for p in timed]), notes)


def _warm_up(result: Result, window: int, notes: list[str]) -> list[Update]:
    times = _values(result, "warm_up")
    drawn = times[-max(_WARM_UP, window // 2) :]
    if len(drawn) < len(times):
        notes.append(f"Of {len(times)} steps of the warm-up the last {len(drawn)} are drawn.")
    return [Update(i - len(drawn) + 1, t) for i, t in enumerate(drawn) if drawable(t)]


def _every(result: Result, count: int) -> int:
    """Every n-th step was kept, so that at most `MAX_KEPT_STEPS` values are."""
    steps = result.value("steps") or 0
    # no window has had so many
    every = math.ceil(steps / MAX_KEPT_STEPS) if steps < 1e12 else 1
    return every if every > 1 and math.ceil(steps / every) == count else 1


def _values(result: Result, name: str) -> list[float]:
    reading = result.reading(name)
    return reading.finite if reading else []


def _counts(steps: Sequence[float], refills: Sequence[float], blocks: Sequence[float]) -> list[int] | None:
    """How many of ``steps`` are in each block; None where the times of the blocks do not tell it."""
    if not blocks or len(refills) % len(blocks):
        return None
    first = len(refills) // len(blocks)
    counts, at = [], 0
    for number, block in enumerate(blocks):
        left = block - sum(refills[number * first : (number + 1) * first])
        spent, begun = 0.0, at
        while at < len(steps) and spent < left - _CLOSE * block:
            spent += steps[at]
            at += 1
        if not abs(spent - left) <= _CLOSE * block:
            return None
        counts.append(at - begun)
    return counts if at == len(steps) else None
