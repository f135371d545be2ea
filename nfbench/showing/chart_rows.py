"""Charts of rows: step times as bars, top-1 on a scale, and ratios on both sides of 1 ×."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

from nfbench import units
from nfbench.analysis import compare, lines
from nfbench.analysis.compare import Ratio
from nfbench.analysis.rows import Row
from nfbench.catalog import published
from nfbench.showing import chart
from nfbench.showing.accuracy import top1
from nfbench.showing.chart import DIM, FAILED, MEASURED, REPORTED, Chart, Line, Screen
from nfbench.showing.results import with_interval

_LEAST = math.log(1.1)
"""Half of the narrowest scale of ratios: noise is not to look like a speed-up."""

_ABOVE_0 = 1e-300
"""The least of what no clock gives as 0."""
_ROOM = 24
"""Cells that names leave to bars."""


def found(steps: Sequence[Row], trained: Sequence[Row], ratios: Sequence[Ratio | None], screen: Screen) -> Chart:
    """Whatever of the three there is enough of to compare."""
    draws: list[Callable[[int], Chart]] = []
    if sum("step_time" in row for row in steps) > 1:
        draws.append(partial(times, steps, screen))
    if any(ratio is not None for ratio in ratios):
        draws.append(partial(speedups, ratios, screen))
    for dataset in dict.fromkeys(row.get("dataset") for row in trained):
        own = [row for row in trained if row.get("dataset") == dataset]
        if sum("top1" in row for row in own) > 1:
            draws.append(partial(accuracies, own, screen))
    return chart.together(draws)


def times(rows: Sequence[Row], screen: Screen, most: int = chart.LINES) -> Chart:
    """The step time of each row as a bar from 0 with the ends of its interval, and as a number."""
    shown = rows[: most - 2]
    values = [chart.sound(row.get("step_time"), _ABOVE_0) for row in rows]
    ends = [(chart.sound(row.get("step_time_low")), chart.sound(row.get("step_time_high"))) for row in rows]
    top = max([v for v in (*values, *(high for _, high in ends)) if v is not None], default=0.0)
    batches = {row.get("batch") for row in rows}
    of = f" of {next(iter(batches))} images" if len(batches) == 1 and None not in batches else ""
    head = chart.head(f"step time{of}, bars from 0 to {units.seconds(top, 3)}", screen)
    table = _Sides(screen, _names(rows)[: len(shown)], [_time(row) for row in shown])
    body: Chart = []
    for i, row in enumerate(shown):
        value, (low, high) = values[i], ends[i]
        if value is None:
            middle = _status(row, table.room, screen)
        else:
            middle = [(_whiskered(value / top if top else 0.0, low, high, top, table.room, screen), MEASURED)]
        body.append(table.line(i, middle))
    return [head, *body, *chart.more(len(rows) - len(shown), "row", screen)]


def accuracies(rows: Sequence[Row], screen: Screen, most: int = chart.LINES) -> Chart:
    """The top-1 of each row of a data set as a point with its interval, on a scale that need not begin at 0."""
    shown = rows[: most - 2]
    values = [[chart.sound(row.get(f"top1{end}"), -1.0) for end in ("", "_low", "_high")] for row in rows]
    all_ = [v for three in values for v in three if v is not None]
    low, high = min(all_, default=0.0), max(all_, default=0.0)
    scale = f"from {chart.top1(low)} to {chart.top1(high)}" if low < high else f"all {chart.top1(low)}"
    head = chart.head(f"top-1 on {rows[0].get('dataset', units.ABSENT)}, {scale}", screen)
    table = _Sides(screen, _names(rows)[: len(shown)], [top1(row) for row in shown])
    body: Chart = []
    for i, row in enumerate(shown):
        at = [
            None if v is None else chart.place((v - low) / (high - low) if high > low else 0.5, table.room)
            for v in values[i]
        ]
        middle = _status(row, table.room, screen) if at[0] is None else _point(at, table.room, screen)
        body.append(table.line(i, middle))
    return [head, *body, *chart.more(len(rows) - len(shown), "row", screen)]


def speedups(ratios: Sequence[Ratio | None], screen: Screen, most: int = chart.LINES) -> Chart:
    """How many times as long each baseline's step takes, from 1 × on, with its interval and what was reported."""
    known = [ratio for ratio in ratios if ratio is not None and _sound(ratio)]
    if not known:
        return []
    shown = known[: most - 4]
    reported = [_reported(ratio) for ratio in shown]
    marks = [(r.speedup.value, r.speedup.low, r.speedup.high) for r in shown]
    logs = [math.log(v) for v in (*(v for three in marks for v in three if v), *(v for some in reported for v in some))]
    low, high = min(-_LEAST, *logs), max(_LEAST, *logs)
    first = {compare.named(ratio)[0] for ratio in known}
    one = next(iter(first)) if len(first) == 1 else ""
    names = [_against(ratio, not one) for ratio in shown]
    table = _Sides(screen, names, [f"{_times(ratio)} ×" for ratio in shown])
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
    told += [f"{glyphs.reported} reported"] if any(reported) else []
    told += [f"{glyphs.both} both there"] if any(glyphs.both in text for line in body for text, _ in line) else []
    title = f"{one} is … times as fast as" if one else "the first is … times as fast as the second"
    return [
        chart.head(title, screen),
        *body,
        [(" " * (table.names + 2), ""), (screen.say(axis), DIM)],
        *chart.note([*told, "log scale"], screen),
        *chart.more(len(known) - len(shown), "ratio", screen),
    ]


class _Sides:
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


def _whiskered(share: float, low: float | None, high: float | None, top: float, room: int, screen: Screen) -> str:
    bar = chart.filled(share, room, screen.glyphs)
    if low is None or high is None or not low < high:
        return bar
    begin, middle, end = (min(int(s * room), room - 1) for s in (low / top, share, high / top))
    # an interval within a cell is narrower than what can be drawn
    if begin == end:
        return bar
    opening, line, value, closing = screen.glyphs.whisker
    text = [screen.glyphs.bar[-1]] * begin + [line] * (end - begin + 1)
    text[begin], text[end] = opening, closing
    text[middle] = value
    return "".join(text)


def _point(at: Sequence[int | None], room: int, screen: Screen) -> Line:
    value, low, high = at
    text = [screen.glyphs.empty] * room
    opening, line, _, closing = screen.glyphs.whisker
    if low is not None and high is not None and low < high:
        text[low : high + 1] = [line] * (high - low + 1)
        text[low], text[high] = opening, closing
    assert value is not None
    return [("".join(text[:value]), DIM), (screen.glyphs.dot, MEASURED), ("".join(text[value + 1 :]), DIM)]


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


def _time(row: Row) -> str:
    return units.ABSENT if chart.sound(row.get("step_time"), _ABOVE_0) is None else with_interval(row)


def _names(rows: Sequence[Row]) -> list[str]:
    """The models, with what tells their rows apart."""
    names = lines.names(rows, swept=())
    for key, text in (("batch", "batch {}"), ("machine", "{}"), ("software", "{}")):
        if len({row.get(key) for row in rows}) > 1:
            names = [f"{name}, {text.format(row.get(key))}" for name, row in zip(names, rows, strict=True)]
    return names


def _share(value: float, low: float, high: float) -> float:
    """Where ``value`` is from ``low`` to ``high``; in the middle where they are one."""
    return (value - low) / (high - low) if high > low else 0.5


def _status(row: Row, room: int, screen: Screen) -> Line:
    return [(screen.cut(str(row.get("status", units.ABSENT)).replace("_", " "), room), FAILED)]


def _sound(ratio: Ratio) -> bool:
    return chart.sound(ratio.speedup.value, _ABOVE_0) is not None


def _times(ratio: Ratio) -> str:
    value, half = ratio.speedup.value, ratio.speedup.half_width
    return units.significant(value, 3) if half is None else units.plus_minus(value, half)


def _against(ratio: Ratio, both: bool) -> str:
    net, baseline = compare.named(ratio)
    if net == baseline:
        # they differ in what a sentence says for both
        baseline = f"{baseline} ({compare.where(ratio, True)})"
    return f"{net} against {baseline}" if both else baseline


def _reported(ratio: Ratio) -> list[float]:
    found = published.ratios(ratio.net.workload.model, ratio.baseline.workload.model)
    return [r.value for r in found if chart.sound(r.value, _ABOVE_0)]
