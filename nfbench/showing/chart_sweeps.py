"""Charts of sweeps: a row a net over batches, or a row a batch across thresholds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from nfbench.analysis import sweeps
from nfbench.analysis.rows import Row
from nfbench.showing import chart
from nfbench.showing.chart import DIM, FAILED, MEASURED, Chart, Line, Screen

if TYPE_CHECKING:
    import pandas as pd

_MOST_PLACES = 16
"""Places of an axis of base 2, also for batches that were not measured; with more, only measured ones have one."""
DIVERGED, SOME, MEMORY, OTHER = "D", "d", "M", "x"
WORDS = {DIVERGED: "diverged", SOME: "some of its runs diverged", MEMORY: "out of memory", OTHER: "failed"}
"""The letters of cells, and what they stand for."""


class Cell(NamedTuple):
    """One measured value, or the letter of why there is none, or both where a part of the runs diverged."""

    value: float | None = None
    mark: str = ""


class Track(NamedTuple):
    """A row of a chart: its name, what is said at its end, and its cells from left to right."""

    name: str
    ending: str
    cells: Sequence[Cell]


def batch_sweep(frame: pd.DataFrame, screen: Screen) -> Chart:
    """Of each machine the throughput of each net over batches as bars from 0, and top-1 where nets were trained."""
    draws: list[Callable[[int], Chart]] = []
    for machine, part in _groups(frame, "machine"):
        where = f"{machine}: " if frame["machine"].nunique() > 1 else ""
        timed = sweeps.records(part[part["status"].notna()])
        if any("throughput" in row for row in timed):
            draws.append(partial(_batches, f"{where}images/s over batches", timed, "throughput", "status", screen))
        for dataset, trained in _groups(part[part["trained_status"].notna()], "dataset"):
            rows = sweeps.records(trained)
            if any("top1" in row for row in rows):
                title = f"{where}{dataset}: top-1 over batches"
                draws.append(partial(_batches, title, rows, "top1", "trained_status", screen))
    return chart.together(draws, screen)


def agc_sweep(frame: pd.DataFrame, screen: Screen) -> Chart:
    """Of each machine and data set the top-1 of each net and batch across λ, and what diverged."""
    draws: list[Callable[[int], Chart]] = []
    for machine, there in _groups(frame, "machine"):
        where = f"{machine}: " if frame["machine"].nunique() > 1 else ""
        for dataset, part in _groups(there, "dataset"):
            rows = sweeps.records(part)
            if any("top1" in row or row.get("diverged") for row in rows):
                draws.append(partial(_clips, f"{where}{dataset}: top-1 across λ", rows, screen))
    return chart.together(draws, screen)


def _batches(title: str, rows: Sequence[Row], key: str, status: str, screen: Screen, most: int) -> Chart:
    across = _places([row.get("batch") for row in rows])
    tracks = [
        track
        for net in dict.fromkeys(row["net"] for row in rows)
        for track in _tracks(net, [row for row in rows if row["net"] == net], across, "batch", key, status)
    ]
    return _drawn(title, tracks, across, key, "net", screen, most)


def _clips(title: str, rows: Sequence[Row], screen: Screen, most: int) -> Chart:
    across = sorted(dict.fromkeys(row.get("agc") for row in rows), key=_numbers_first)
    nets = list(dict.fromkeys(row["net"] for row in rows))
    title = f"{nets[0]} on {title}" if len(nets) == 1 else title
    tracks: list[Track] = []
    for net in nets:
        own = [row for row in rows if row["net"] == net]
        for batch in sorted(dict.fromkeys(row.get("batch") for row in own), key=_numbers_first):
            name = f"batch {batch}" if len(nets) == 1 else f"{net}, batch {batch}"
            some = [row for row in own if row.get("batch") == batch]
            tracks += _tracks(name, some, across, "agc", "top1", "status")
    return _drawn(title, tracks, across, "top1", "row", screen, most)


def _tracks(name: str, rows: Sequence[Row], across: Sequence[Any], axis: str, key: str, status: str) -> list[Track]:
    """A track of ``rows``, and more where several rows share a place, such as runs at several rates."""
    found: list[dict[Any, Cell]] = []
    for row in rows:
        where = row.get(axis)
        track = next((t for t in found if where not in t), None)
        if track is None:
            found.append(track := {})
        track[where] = _cell(row, key, status)
    tracks = []
    for number, cells in enumerate(found, 1):
        placed = [cells.get(where, Cell()) for where in across]
        values = [cell.value for cell in placed if cell.value is not None]
        again = f" ({number})" if len(found) > 1 else ""
        tracks.append(Track(name + again, _ending(values, axis, key), placed))
    return tracks


def _cell(row: Row, key: str, status: str) -> Cell:
    value = chart.sound(row.get(key))
    said = str(row.get(status, "ok"))
    if key == "top1" and row.get("diverged"):
        return Cell(value, DIVERGED if value is None else SOME)
    if value is not None or said == "ok":
        return Cell(value)
    return Cell(mark=DIVERGED if "diverged" in said else MEMORY if "out_of_memory" in said else OTHER)


def _ending(values: Sequence[float], axis: str, key: str) -> str:
    """What is said at the end of a track: of batches its first and last value, of thresholds the least and most."""
    if not values:
        return ""
    show = chart.top1 if key == "top1" else chart.number
    ends = (values[0], values[-1]) if axis == "batch" else (min(values), max(values))
    first, last = map(show, ends)
    return (
        first if len(values) == 1 or first == last else f"{first} → {last}" if axis == "batch" else f"{first} … {last}"
    )


def _drawn(
    title: str, tracks: Sequence[Track], across: Sequence[Any], key: str, what: str, screen: Screen, most: int
) -> Chart:
    values = [cell.value for track in tracks for cell in track.cells if cell.value is not None]
    if most < chart.LEAST or sum(cell != Cell() for track in tracks for cell in track.cells) < 2:
        return []
    bars = key != "top1"
    # a bar has a length, which means something from 0 on only
    low, high = (0.0, max(values)) if bars else (min(values, default=0.0), max(values, default=0.0))
    show = chart.number if bars else chart.top1
    words = ("bars from 0 to {1}" if bars else "from {0} to {1}" if low < high else "all {1}") if values else ""
    scale = words.format(show(low), show(high))
    marks = {cell.mark for track in tracks for cell in track.cells} - {""}
    # the title, the axis, the legend and what is left out take lines of their own
    room = most - chart.LEAST + 1
    height = 2 if low < high and 2 * len(tracks) <= room else 1
    shown = tracks[: room // height]
    endings, ends = screen.names([t.ending for t in shown], screen.width * 2 // 5)
    # a cell of three is read well, and its label has a place
    most_of_name = max(screen.width // 4, screen.width - ends - 4 - max(24, 3 * len(across)))
    titles, names = screen.names([t.name for t in shown], most_of_name)
    cell, gap = _widths(screen.width - names - ends - 4, len(across))
    fit = (screen.width - names - ends - 4) // (cell + gap)
    lines: Chart = [chart.head(f"{title}, {scale}" if scale else title, screen)]
    for name, ending, track in zip(titles, endings, shown, strict=True):
        for above in reversed(range(height)):
            line: Line = [(" " * names if above else chart.padded(name, names), ""), ("  ", "")]
            for one in track.cells[:fit]:
                line += [_piece(one, low, high, above, height, cell, bars, screen), (" " * gap, "")]
            if not above:
                line.append((f"  {ending}", ""))
            lines.append(line)
    labels = _labels(["–" if value is None else str(value) for value in across[:fit]], cell + gap, screen)
    lines.append([(" " * (names + 2) + labels, DIM)])
    left = len(across) - fit
    narrow = [f"too narrow here for {left} more to the right"] if left > 0 else []
    lines += chart.note([*(f"{m} {WORDS[m]}" for m in WORDS if m in marks), *narrow], screen)
    return lines + chart.more(len(tracks) - len(shown), what, screen)


def _piece(
    cell: Cell, low: float, high: float, above: int, height: int, width: int, bars: bool, screen: Screen
) -> tuple[str, str]:
    """What a cell has in the row that is ``above`` so many others."""
    if cell.value is None:
        return (cell.mark.center(width) if cell.mark and not above else " " * width), FAILED
    share = 0.5 if high <= low and not bars else (cell.value - low) / (high - low) if high > low else 0.0
    if bars:
        parts = len(screen.glyphs.columns)
        # the last part stays free, so that a bar does not run into the row above it
        level = max(round(share * (height * parts - 1)), 1) - above * parts
        mark = screen.glyphs.columns[min(level, parts) - 1] if level > 0 else " "
    else:
        parts = len(screen.glyphs.dashes)
        level = round(share * (height * parts - 1)) - above * parts
        mark = screen.glyphs.dashes[level] if 0 <= level < parts else " "
    if cell.mark and not above:
        return f"{mark * (width - 1)}{cell.mark}", FAILED
    return mark * width, MEASURED


def _widths(room: int, count: int) -> tuple[int, int]:
    """The width of a cell and of the gap to its right, in the cells of the terminal."""
    each = max(room // max(count, 1), 1)
    return (each, 0) if each < 3 else (min(each, 8) - 1, 1)


def _labels(texts: Sequence[str], each: int, screen: Screen) -> str:
    """The labels of an axis, each in the middle of its place, those left out that would run into another."""
    width = each * len(texts)
    line = [" "] * width
    taken = -1
    said = [screen.cut(text, 8) for text in texts]
    for i, text in enumerate(said):
        start = max(i * each + (each - (each > 2) - chart.wide(text)) // 2, 0)
        end = start + chart.wide(text)
        # the last is worth more than those before it
        last = len(said) - 1
        clear = i == last or end < last * each + (each - (each > 2) - chart.wide(said[last])) // 2
        if start > taken and end <= width and clear:
            line[start:end] = [text, *[""] * (chart.wide(text) - 1)]
            taken = end
    return "".join(line)


def _places(batches: Sequence[Any]) -> list[Any]:
    """The batches in order; where they are powers of 2 apart, with a place for those that were not measured."""
    there = sorted(dict.fromkeys(batches), key=_numbers_first)
    if not all(isinstance(batch, int) and batch > 0 for batch in there) or len(there) < 2:
        return there
    steps = [math.log2(after / before) if before else 0.0 for before, after in itertools.pairwise(there)]
    if any(step != round(step) for step in steps) or sum(steps) >= _MOST_PLACES:
        return there
    return [there[0] * 2**i for i in range(round(sum(steps)) + 1)]


def _numbers_first(value: Any) -> tuple[int, float, str]:
    number = chart.sound(value, -math.inf)
    return (2, 0.0, "") if value is None else (1, 0.0, str(value)) if number is None else (0, number, "")


def _groups(frame: pd.DataFrame, key: str) -> list[tuple[str, pd.DataFrame]]:
    return [(str(value), part) for value, part in frame.groupby(key, sort=False, dropna=False)]
