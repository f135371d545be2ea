"""Charts of rows: step times as bars and top-1 on a scale, with what there is of ratios."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

from nfbench import units
from nfbench.analysis import lines
from nfbench.analysis.compare import Ratio
from nfbench.analysis.rows import Row
from nfbench.showing import chart
from nfbench.showing.accuracy import top1
from nfbench.showing.chart import DIM, FAILED, MEASURED, Chart, Line, Screen
from nfbench.showing.chart_ratios import speedups
from nfbench.showing.chart_sides import ABOVE_0, Sides, holds, interval
from nfbench.showing.results import with_interval


def found(steps: Sequence[Row], trained: Sequence[Row], ratios: Sequence[Ratio | None], screen: Screen) -> Chart:
    """Whatever of the three there is enough of to compare; noisy steps are not drawn."""
    steps = [row for row in steps if "noisy" not in row]
    draws: list[Callable[[int], Chart]] = []
    parts = _comparable(steps)
    draws += [partial(times, part, screen, where=f"{part[0]['machine']}: " if len(parts) > 1 else "") for part in parts]
    if any(ratio is not None for ratio in ratios):
        draws.append(partial(speedups, ratios, screen))
    for dataset in dict.fromkeys(row.get("dataset") for row in trained):
        own = [row for row in trained if row.get("dataset") == dataset]
        if sum("top1" in row for row in own) > 1:
            draws.append(partial(accuracies, own, screen))
    return chart.together(draws, screen)


def _comparable(steps: Sequence[Row]) -> list[Sequence[Row]]:
    """The rows of steps that share a chart: each machine's where all have several, since names of machines are long."""
    parts = [[row for row in steps if row.get("machine") == m] for m in dict.fromkeys(r.get("machine") for r in steps)]
    several = [sum("step_time" in row for row in part) > 1 for part in parts]
    if all(several):
        return list(parts)
    return [steps] if sum("step_time" in row for row in steps) > 1 else []


def times(rows: Sequence[Row], screen: Screen, most: int = chart.LINES, where: str = "") -> Chart:
    """The step time of each row as a bar from 0 with the ends of its interval, and as a number."""
    if most < chart.LEAST:
        return []
    # the head, what the marks are, and what is left out
    shown = rows[: most - 3]
    values = [chart.sound(row.get("step_time"), ABOVE_0) for row in rows]
    ends = [(chart.sound(row.get("step_time_low")), chart.sound(row.get("step_time_high"))) for row in rows]
    top = max([v for v in (*values, *(high for _, high in ends)) if v is not None], default=0.0)
    batches = {row.get("batch") for row in rows}
    of = f" of {next(iter(batches))} images" if len(batches) == 1 and None not in batches else ""
    head = chart.head(f"{where}step time{of}, bars from 0 to {units.seconds(top, 3)}", screen)
    table = Sides(screen, _names(rows)[: len(shown)], [_time(row) for row in shown])
    body: Chart = []
    for i, row in enumerate(shown):
        value, (low, high) = values[i], ends[i]
        if value is None:
            middle = _status(row, table.room, screen)
        else:
            middle = [(_whiskered(value / top if top else 0.0, low, high, top, table.room, screen), MEASURED)]
        body.append(table.line(i, middle))
    told = [f"{screen.glyphs.bar[-1]} measured", interval(screen)] if holds(body, screen.glyphs.whisker[-1]) else []
    return [head, *body, *chart.note(told, screen), *chart.more(len(rows) - len(shown), "row", screen)]


def accuracies(rows: Sequence[Row], screen: Screen, most: int = chart.LINES) -> Chart:
    """The top-1 of each row of a data set as a point with its interval, on a scale that need not begin at 0."""
    if most < chart.LEAST:
        return []
    shown = rows[: most - 3]
    values = [_top1(row) for row in rows]
    all_ = [v for three in values for v in three if v is not None]
    low, high = min(all_, default=0.0), max(all_, default=0.0)
    scale = f"from {chart.top1(low)} to {chart.top1(high)}" if low < high else f"all {chart.top1(low)}"
    head = chart.head(f"top-1 on {rows[0].get('dataset', units.ABSENT)}, {scale}", screen)
    table = Sides(screen, _names(rows)[: len(shown)], [_share(row) for row in shown])
    body: Chart = []
    for i, row in enumerate(shown):
        at = [
            None if v is None else chart.place((v - low) / (high - low) if high > low else 0.5, table.room)
            for v in values[i]
        ]
        middle = _status(row, table.room, screen) if at[0] is None else _point(at, table.room, screen)
        body.append(table.line(i, middle))
    told = [f"{screen.glyphs.dot} measured"]
    told += [f"{interval(screen)} over seeds"] if holds(body, screen.glyphs.whisker[-1]) else []
    return [head, *body, *chart.note(told, screen), *chart.more(len(rows) - len(shown), "row", screen)]


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


def _time(row: Row) -> str:
    return units.ABSENT if chart.sound(row.get("step_time"), ABOVE_0) is None else with_interval(row)


def _names(rows: Sequence[Row]) -> list[str]:
    """The models, with what tells their rows apart."""
    names = lines.names(rows, swept=())
    for key, text in (("batch", "batch {}"), ("machine", "{}"), ("software", "{}")):
        # software is long, and what it is matters where nothing else tells rows apart
        if len({row.get(key) for row in rows}) > 1 and (key != "software" or len(set(names)) < len(names)):
            names = [f"{name}, {text.format(row.get(key))}" for name, row in zip(names, rows, strict=True)]
    return names


def _status(row: Row, room: int, screen: Screen) -> Line:
    return [(screen.cut(str(row.get("status", units.ABSENT)).replace("_", " "), room), FAILED)]


def _top1(row: Row) -> list[float | None]:
    """The top-1 and the ends of its interval, which over few seeds reach beyond what a share can be."""
    value, *ends = (chart.sound(row.get(f"top1{end}"), -math.inf) for end in ("", "_low", "_high"))
    return [value, *(None if end is None else min(max(end, 0.0), 1.0) for end in ends)]


def _share(row: Row) -> str:
    return units.ABSENT if _top1(row)[0] is None else top1(row)
