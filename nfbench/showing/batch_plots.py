"""Figures over batch sizes: what a step takes. A line is a net.

A net needs two batches. Where a batch takes several passes its point is half-filled, and what did not fit or diverged
is marked in a strip below, so that nothing is missing in silence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

from nfbench import units
from nfbench.analysis import lines
from nfbench.analysis.rows import Row
from nfbench.analysis.sweeps import batch_sweep, records
from nfbench.showing.kinds import Drawing, Held, without
from nfbench.showing.style import MARKERS, drawable, look, plain, series
from nfbench.showing.sweep_lines import (
    DASHES,
    MOST_LINES,
    Failed,
    Line,
    Look,
    Point,
    Scale,
    draw,
    number,
)

if TYPE_CHECKING:
    import pandas as pd

_HALF = "several passes an update"
_LARGEST = 2.0**62
_BATCHES = 24
"""Batches that a figure has room for."""
_STEP_NOTE = "Bars: 95 % intervals."
_PROCESS_NOTE = "Memory of the process: Python and torch are in it, so that nets differ by less than they take."


def batch_throughput(held: Held) -> Drawing:
    """Images per second against batch, a line a net, one figure a machine."""
    scale = Scale("throughput, images/s", number)
    return _timed(held, "throughput", scale, "measured throughput")


def batch_step_time(held: Held) -> Drawing:
    """Seconds of an optimizer update against batch."""
    scale = Scale("step time", lambda v: units.si(v, "s", 1), 10)
    return _timed(held, "step_time", scale, "measured step time")


def batch_memory(held: Held) -> Drawing:
    """Peak bytes against batch: those that the allocator gave out, on a CPU those of the process."""
    scale = Scale("peak memory", lambda v: units.bytes_(v, 1), 2)
    return _timed(held, "peak_memory", scale, "measured peak memory")


def _timed(held: Held, key: str, scale: Scale, what: str) -> Drawing:
    drawing = Drawing()
    machines: dict[str, list[Row]] = {}
    for row in each_software(held.rows, batch_sweep):
        machines.setdefault(row["machine"], []).append(row)
    for machine, rows in machines.items():

        def drawn(row: Row) -> tuple[Point | None, Failed | None]:
            return _point(row, key), None if key in row else _failure(row)

        found = sweeps_of(rows, drawing, drawn, what.removeprefix("measured "))
        kept, more = found[:MOST_LINES], found[MOST_LINES:]
        drawing.leave_out((row for sweep in more for row in sweep.rows), room(f"{MOST_LINES} lines"))
        if kept:
            shown = [row for sweep in kept for row in sweep.rows]
            drawing.drawn.extend(shown)
            of = list(dict.fromkeys(row["peak_memory_of"] for row in shown if "peak_memory_of" in row))
            said = {"allocated": ", allocated on the device", "process": " of the process"}
            whose = " and".join(said[word] for word in of) if key == "peak_memory" else ""
            said_of = _STEP_NOTE if key != "peak_memory" else _PROCESS_NOTE if "process" in of else ""
            note = f"{said_of} {left(len(more))}".strip()
            styles = _looks([(row["net"], row["model"], row.get("family")) for row in shown])
            some = [Line(sweep.net, styles[sweep.net], sweep.points, sweep.failed) for sweep in kept]
            figure, _, _ = draw(some, scale, f"{plain(machine, 44)}: {what}{whose}", note, half=_HALF)
            drawing.figures.append((machine, figure))
    return drawing


def each_software(rows: Sequence[Row], sweep: Callable[[Sequence[Row]], pd.DataFrame]) -> list[Row]:
    """The rows of a sweep. Where a model has rows that only the software tells apart, as with --all, its nets bear the
    software, since no line leads from one to another."""
    same: dict[tuple[object, ...], set[object]] = {}
    for row in rows:
        same.setdefault(_but_for_software(row), set()).add(row.get("software"))
    several = {key[0] for key, softwares in same.items() if len(softwares) > 1}
    parts: dict[object, list[Row]] = {}
    for row in rows:
        parts.setdefault(row.get("software") if row["model"] in several else None, []).append(row)
    found: list[Row] = []
    for software, some in parts.items():
        told = f", {plain(str(software), 44)}" if software is not None else ""
        found += [row | {"net": f"{row['net']}{told}"} for row in records(sweep(some))]
    return found


def _but_for_software(row: Row) -> tuple[object, ...]:
    settled = lines.settings(row).items()
    return row["model"], *(row.get(key) for key in ("machine", "dataset", "batch")), tuple(settled)


class Sweep(NamedTuple):
    """A net over its batches: its rows, its values, and what has none."""

    net: str
    rows: list[Row]
    points: list[Point]
    failed: list[Failed]


def sweeps_of(
    rows: Iterable[Row], drawing: Drawing, drawn: Callable[[Row], tuple[Point | None, Failed | None]], what: str
) -> list[Sweep]:
    """The nets that have two batches and a value or a mark, those with a value first; the other rows are left out, such
    as those without ``what``."""
    nets: dict[str, list[tuple[Row, Point | None, Failed | None]]] = {}
    for row in rows:
        point, failure = drawn(row)
        if not 0 < row["batch"] < _LARGEST:
            drawing.leave_out([row], "a batch that no axis can hold")
        elif point is None and failure is None:
            drawing.leave_out([row], without(row, what))
        else:
            nets.setdefault(row["net"], []).append((row, point, failure))
    common = Counter(row["batch"] for some in nets.values() for row, _, _ in some)
    batches = set(sorted(common, key=lambda batch: (-common[batch], batch))[:_BATCHES])
    found: list[Sweep] = []
    # a net that only failed says something beside those with values alone
    for net, every in sorted(nets.items(), key=lambda pair: all(point is None for _, point, _ in pair[1])):
        some = [each for each in every if each[0]["batch"] in batches]
        drawing.leave_out((row for row, _, _ in every if row["batch"] not in batches), room(f"{_BATCHES} batches"))
        own = [row for row, _, _ in some]
        points = [point for _, point, _ in some if point]
        if len({row["batch"] for row in own}) < 2:
            drawing.leave_out(own, "one batch only; it takes two")
        elif not points and not found:
            drawing.leave_out(own, "no value at any batch")
        else:
            found.append(Sweep(net, own, points, [failure for _, _, failure in some if failure]))
    return found


def left(number: int) -> str:
    """What the foot of a figure says of the lines that it has no room for."""
    return f"{number} more line{'s'[: number != 1]} left out." if number else ""


def _looks(nets: Sequence[tuple[str, str, str | None]]) -> dict[str, Look]:
    """The look of each (name, model, family), no two the same in marker and dash, which are told without colour."""
    found: dict[str, Look] = {}
    free = dict.fromkeys(product(MARKERS, range(len(DASHES))))
    for name, model, family in nets:
        if name in found:
            continue
        colour, own = look(series(model, family)[1])
        turned = MARKERS[MARKERS.index(own) :] + MARKERS[: MARKERS.index(own)]
        marker, dash = next(pair for pair in product(turned, range(len(DASHES))) if pair in free)
        del free[marker, dash]
        found[name] = Look(colour, marker, DASHES[dash])
    return found


def room(what: str) -> str:
    """Why a row is not in a figure that is full."""
    return f"a figure has room for {what}: draw fewer at once, with --where"


def _point(row: Row, key: str) -> Point | None:
    value = row.get(key)
    if value is None or not 1e-12 < value < 1e18 or (key != "peak_memory" and not drawable(row.get("step_time"))):
        return None
    low, high = row.get(f"{key}_low"), row.get(f"{key}_high")
    half = row.get("accumulation_steps", 1) > 1
    if not low or not high or not 1e-12 < low <= high < 1e18:
        return Point(row["batch"], value, half=half)
    return Point(row["batch"], value, low, high, half)


def _failure(row: Row) -> Failed | None:
    status = row["status"]
    return None if status == "ok" else Failed(row["batch"], status.replace("_", " "))
