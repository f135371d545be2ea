"""Charts of ratios: beams on both sides of 1 ×, with what was reported in another look."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nfbench import units
from nfbench.analysis import compare
from nfbench.analysis.compare import Ratio
from nfbench.showing import chart
from nfbench.showing.chart import DIM, MEASURED, REPORTED, Chart, Line, Screen
from nfbench.showing.chart_sides import ABOVE_0, Sides, holds, interval

_LEAST = math.log(1.1)
"""Half of the narrowest scale of ratios: noise is not to look like a speed-up."""


def speedups(ratios: Sequence[Ratio | None], screen: Screen, most: int = chart.LINES) -> Chart:
    """How many times as long each baseline's step takes, from 1 × on, with its interval and what was reported."""
    known = [ratio for ratio in ratios if ratio is not None and _sound(ratio)]
    if not known or most < chart.LEAST:
        return []
    shown = known[: most - 4]
    reported = [_reported(ratio) for ratio in shown]
    marks = [[chart.sound(v, ABOVE_0) for v in r.speedup] for r in shown]
    logs = [math.log(v) for some in marks for v in some if v is not None]
    logs += [math.log(v) for some in reported for v in some]
    low, high = min([-_LEAST, *logs]), max([_LEAST, *logs])
    first = {compare.named(ratio)[0] for ratio in known}
    one = next(iter(first)) if len(first) == 1 else ""
    names = [_against(ratio, not one) for ratio in shown]
    table = Sides(screen, names, [f"{_times(ratio)} ×" for ratio in shown])
    room = table.room

    def at(value: float | None) -> int | None:
        return None if not value else chart.place((math.log(value) - low) / (high - low), room)

    body = [
        table.line(i, _beam([at(v) for v in marks[i]], at(1.0) or 0, [at(v) or 0 for v in reported[i]], room, screen))
        for i in range(len(shown))
    ]
    glyphs = screen.glyphs
    axis = _axis([(math.exp(low), 0), (1.0, at(1.0) or 0), (math.exp(high), room - 1)], room)
    told = [f"{glyphs.measured} measured"]
    told += [interval(screen)] if holds(body, glyphs.whisker[0], glyphs.whisker[-1]) else []
    told += [f"{glyphs.reported} reported"] if any(reported) else []
    told += [f"{glyphs.both} both there"] if holds(body, glyphs.both) else []
    told += [f"{glyphs.one} 1 ×"]
    title = f"{one} is … times as fast as" if one else "the first is … times as fast as the second"
    return [
        chart.head(title, screen),
        *body,
        [(" " * (table.names + 2), ""), (screen.say(axis), DIM)],
        *chart.note([*told, "log scale"], screen),
        *chart.more(len(known) - len(shown), "ratio", screen),
    ]


def _beam(at: Sequence[int | None], one: int, reported: Sequence[int], room: int, screen: Screen) -> Line:
    value, low, high = at
    assert value is not None
    glyphs = screen.glyphs
    cells = [(" ", "")] * room
    for i in range(min(one, value), max(one, value)):
        cells[i] = (glyphs.beam, MEASURED)
    cells[one] = (glyphs.one, DIM)
    if low is not None and high is not None and low < high:
        opening, line, _, closing = glyphs.whisker
        for i in range(low, high + 1):
            cells[i] = (opening if i == low else closing if i == high else line, MEASURED)
    for i in reported:
        cells[i] = (glyphs.reported, REPORTED)
    cells[value] = (glyphs.both, "") if value in reported else (glyphs.measured, f"bold {MEASURED}")
    return cells


def _axis(labels: Sequence[tuple[float, int]], room: int) -> str:
    """Ratios below their places, the one in the middle always, those at the ends where they fit."""
    line = [" "] * room
    _, middle, _ = labels
    for value, cell in (middle, *(label for label in labels if label is not middle)):
        text = f"{units.significant(value, 2)} ×" if 1e-3 < value < 1e6 else f"{value:.0e} ×"
        start = min(max(cell - len(text) // 2, 0), max(room - len(text), 0))
        around = line[max(start - 1, 0) : start + len(text) + 1]
        if all(c == " " for c in around) and start + len(text) <= room:
            line[start : start + len(text)] = text
    return "".join(line)


def _sound(ratio: Ratio) -> bool:
    return chart.sound(ratio.speedup.value, ABOVE_0) is not None


def _times(ratio: Ratio) -> str:
    return units.interval(*ratio.speedup)


def _against(ratio: Ratio, both: bool) -> str:
    net, baseline = compare.named(ratio)
    if net == baseline:
        # they differ in what a sentence says for both
        baseline = f"{baseline} ({compare.where(ratio, True)})"
    return f"{net} against {baseline}" if both else baseline


def _reported(ratio: Ratio) -> list[float]:
    found = compare.reported(ratio.net, ratio.baseline)
    return [r.value for r in found if chart.sound(r.value, ABOVE_0)]
