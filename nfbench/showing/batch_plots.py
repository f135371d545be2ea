"""Figures over batch sizes: what a step takes, and how accurate training is. A line is a net.

A net needs two batches. Where a batch takes several passes its point is half-filled, and what did not fit or diverged
is marked in a strip below, so that nothing is missing in silence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nfbench import units
from nfbench.analysis.rows import Row
from nfbench.analysis.sweeps import batch_sweep, records
from nfbench.catalog import published
from nfbench.devices.about import slug
from nfbench.showing.kinds import Drawing, Held
from nfbench.showing.style import MARKERS, drawable, look, plain, series
from nfbench.showing.sweep_lines import (
    DASHES,
    MOST_LINES,
    Failed,
    Line,
    Look,
    Point,
    Scale,
    columns_of,
    draw,
    handle,
    legend,
    number,
)
from nfbench.showing.trained import lost, runs_note, top1_failure, top1_point

_HALF = "several passes an update"
_LARGEST = 2.0**62
_BATCHES = 24
"""Batches that a figure has room for."""
_STEP_NOTE = "Bars: 95 % intervals."
_MEANS = "Means over seeds, bars 95 % intervals of Student's t over them."
_TOP1_NOTE = (
    "Below: what diverged, with its first such update, and what failed; of a point that stands above too only some"
    " seeds."
)


def batch_throughput(held: Held) -> Drawing:
    """Images per second against batch, a line a net, one figure a machine."""
    scale = Scale("throughput, images/s", number)
    return _timed(held, "throughput", scale, "measured throughput")


def batch_step_time(held: Held) -> Drawing:
    """Seconds of an optimizer update against batch."""
    scale = Scale("step time, s", lambda v: units.si(v, "s", 1), 10)
    return _timed(held, "step_time", scale, "measured step time")


def batch_memory(held: Held) -> Drawing:
    """Peak bytes against batch: those that the allocator gave out, on a CPU those of the process."""
    scale = Scale("peak memory, bytes", lambda v: units.bytes_(v, 1), 2)
    return _timed(held, "peak_memory", scale, "measured peak memory")


def batch_accuracy(held: Held) -> Drawing:
    """Top-1 against batch, a line a net and λ, one figure a machine and data set; below what the paper reports."""
    drawing = Drawing()
    places: dict[tuple[str, str], list[Row]] = {}
    for row in records(batch_sweep((), held.trained)):
        places.setdefault((row["machine"], row["dataset"]), []).append(row)
    for (machine, dataset), rows in places.items():
        lines, shown = _lines(rows, drawing, _trained)
        if not lines:
            continue
        drawing.notes.extend(lost(row) for row in shown if row.get("seeds", 0) < row["runs"] and "top1" in row)
        title = f"{plain(machine, 44)}: measured top-1 on {plain(dataset, 40)}"
        title += ", the rate scaled with the batch" if _scaled(shown) else ""
        scale = Scale("measured top-1, %", number, 100)
        figure, _, below = draw(lines, scale, title, runs_note(shown, _MEANS, _TOP1_NOTE), below=3.08)
        _reported(figure, below)
        several = sum(m == machine for m, _ in places) > 1
        figure.set_label(slug(dataset) if several else "")
        drawing.figures.append((machine, figure))
    return drawing


def _timed(held: Held, key: str, scale: Scale, what: str) -> Drawing:
    drawing = Drawing()
    machines: dict[str, list[Row]] = {}
    for row in records(batch_sweep(held.rows)):
        machines.setdefault(row["machine"], []).append(row)
    for machine, rows in machines.items():

        def drawn(row: Row) -> tuple[Point | None, Failed | None]:
            return _point(row, key), None if key in row else _failure(row)

        lines, shown = _lines(rows, drawing, drawn)
        if lines:
            of = list(dict.fromkeys(row["peak_memory_of"] for row in shown if "peak_memory_of" in row))
            said = {"allocated": ", allocated on the device", "process": " of the process"}
            whose = " and".join(said[word] for word in of) if key == "peak_memory" else ""
            note = _STEP_NOTE if key != "peak_memory" else ""
            figure, _, _ = draw(lines, scale, f"{plain(machine, 44)}: {what}{whose}", note, half=_HALF)
            drawing.figures.append((machine, figure))
    return drawing


_Drawn = Callable[[Row], tuple[Point | None, Failed | None]]


def _lines(rows: Sequence[Row], drawing: Drawing, drawn: _Drawn) -> tuple[list[Line], list[Row]]:
    """The nets that have two batches and a value or a mark, with their rows. Every row goes to the drawing, as drawn or
    with the reason."""
    nets: dict[str, list[tuple[Row, Point | None, Failed | None]]] = {}
    for row in rows:
        point, failure = drawn(row)
        if not 0 < row["batch"] < _LARGEST:
            drawing.leave_out([row], "a batch that no axis can hold")
        elif point is None and failure is None:
            drawing.leave_out([row], f"{row.get('status', row.get('trained_status'))}, no value")
        else:
            nets.setdefault(row["net"], []).append((row, point, failure))
    common = Counter(row["batch"] for some in nets.values() for row, _, _ in some)
    batches = set(sorted(common, key=lambda batch: (-common[batch], batch))[:_BATCHES])
    found: dict[str, tuple[list[Point], list[Failed]]] = {}
    shown: list[Row] = []
    # those with values first, since a net that only failed says something beside them alone
    for net, every in sorted(nets.items(), key=lambda pair: all(point is None for _, point, _ in pair[1])):
        some = [each for each in every if each[0]["batch"] in batches]
        drawing.leave_out((row for row, _, _ in every if row["batch"] not in batches), _room(f"{_BATCHES} batches"))
        points, failed = [p for _, p, _ in some if p], [f for _, _, f in some if f]
        own = [row for row, _, _ in some]
        if len({row["batch"] for row in own}) < 2:
            drawing.leave_out(own, "one batch only; it takes two")
        elif not points and not found:
            drawing.leave_out(own, "no value at any batch")
        elif len(found) == MOST_LINES:
            drawing.leave_out(own, _room(f"{MOST_LINES} lines"))
        else:
            found[net] = points, failed
            shown += own
    drawing.drawn.extend(shown)
    styles = _looks([(row["net"], row["model"], row.get("family")) for row in shown])
    return [Line(net, styles[net], points, failed) for net, (points, failed) in found.items()], shown


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


def _room(what: str) -> str:
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


def _trained(row: Row) -> tuple[Point | None, Failed | None]:
    return top1_point(row, row["batch"]), top1_failure(row, row["batch"])


def _scaled(rows: Sequence[Row]) -> bool:
    """Whether each net's rate is proportional to its batch."""
    rates: dict[str, list[float]] = {}
    for row in rows:
        if row.get("lr"):
            rates.setdefault(row["net"], []).append(row["lr"] / row["batch"])
    return bool(rates) and all(max(each) <= 1.001 * min(each) for each in rates.values())


def _reported(figure: Figure, place: object) -> None:
    """The paper's Figure 2a in a panel of its own, faint and hollow: ImageNet, other nets, never one line with ours."""
    inner = place.subgridspec(2, 1, height_ratios=[2.0, 0.88])  # type: ignore[attr-defined]
    axes: Axes = figure.add_subplot(inner[0])
    nets: dict[tuple[str, str], list[tuple[int, float | None]]] = {}
    for row in published.rows("figure2a.csv"):
        at = int(row["batch"]), float(row["top1"]) if row["top1"] else None
        nets.setdefault((row["net"], row["agc"]), []).append(at)
    handles, floor = [], 75.5
    for (net, agc), points in nets.items():
        colour, marker = look(net.rstrip("0123456789"))
        style = Look(colour, marker, "-" if agc == "yes" or "nf" not in net else ":")
        faint: dict[str, Any] = {"markerfacecolor": "white", "alpha": 0.55, "markersize": 4.5}
        faint["linewidth"] = 1.8 if net.endswith("200") else 0.8
        there = [(batch, top1) for batch, top1 in points if top1 is not None]
        axes.plot(*zip(*there, strict=True), color=colour, marker=marker, linestyle=style.dash, **faint)
        fallen = [batch for batch, top1 in points if top1 is None]
        axes.plot(fallen, [floor + 0.25] * len(fallen), color=colour, marker="x", linestyle="none", alpha=0.55)
        handles.append(handle(f"{net}{' with AGC' if agc == 'yes' else ''}", style, **faint))
    handles.append(handle("collapses (below 70 %)", Look("black", "x", "none"), alpha=0.55))
    axes.set_xscale("log", base=2)
    axes.set_xticks([256, 512, 1024, 2048, 4096], ["256", "512", "1,024", "2,048", "4,096"])
    axes.minorticks_off()
    axes.set_ylim(floor, 80.2)
    axes.set_xlabel("batch, images an update")
    axes.set_ylabel("reported top-1, %")
    axes.set_title(f"ImageNet, reported: not measured here. {published.PAPER}, Figure 2a", loc="left", fontsize=8)
    legend(figure.add_subplot(inner[1]), handles, columns_of(handles)[0], "hollow and faint: reported")
