"""Figures over batch sizes: what a step takes, and how accurate training is. A line is a net.

A net needs two batches. Where a batch takes several passes its point is half-filled, and what did not fit or diverged
is marked in a strip below, so that nothing is missing in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nfbench import units
from nfbench.analysis.rows import Row
from nfbench.analysis.sweeps import batch_sweep, records
from nfbench.catalog import published
from nfbench.devices.about import slug
from nfbench.showing.kinds import Drawing, Held
from nfbench.showing.style import drawable, look, plain
from nfbench.showing.sweep_lines import (
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
    looks,
    number,
)

_HALF = "several passes an update"
_LARGEST = 2.0**62
_STEP_NOTE = "Bars: 95 % intervals."
_MEANS = "Means over seeds, bars 95 % intervals of Student's t over them."
_TOP1_NOTE = (
    "Below: what diverged, with its first such update, and what failed; of a point that stands above too only some"
    " seeds."
)


def batch_throughput(held: Held) -> Drawing:
    """Images per second against batch, a line a net, one figure a machine."""
    scale = Scale("throughput, images/s", number)
    return _timed(held, "batch-throughput", "throughput", scale, "measured throughput")


def batch_step_time(held: Held) -> Drawing:
    """Seconds of an optimizer update against batch."""
    scale = Scale("step time", lambda v: units.si(v, "s", 1), 10)
    return _timed(held, "batch-step-time", "step_time", scale, "measured step time")


def batch_memory(held: Held) -> Drawing:
    """Peak bytes against batch: those that the allocator gave out, on a CPU those of the process."""
    scale = Scale("peak memory", lambda v: units.bytes_(v, 1), 2)
    return _timed(held, "batch-memory", "peak_memory", scale, "measured peak memory")


def batch_accuracy(held: Held) -> Drawing:
    """Top-1 against batch, a line a net and λ, one figure a machine and data set; below what the paper reports."""
    drawing = Drawing([], [], [])
    rows = records(batch_sweep((), held.trained))
    if not rows:
        drawing.lacking.append("batch-accuracy: the results hold no training run; nfbench batch-sweep --accuracy does")
    places: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        places.setdefault((row["machine"], row["dataset"]), []).append(row)
    for (machine, dataset), here in places.items():
        where = f"on {plain(machine)}, {plain(dataset, 40)}"
        lines = _lines("batch-accuracy", where, here, drawing, _trained)
        if not lines:
            continue
        title = f"{plain(machine)}: measured top-1 on {plain(dataset, 40)}, the rate scaled with the batch"
        title = title if _scaled(here) else title.partition(", the rate")[0]
        figure, axes, below = draw(
            lines, Scale("top-1, %", number, 100), title, runs_note(here, _MEANS, _TOP1_NOTE), below=2.6
        )
        axes.set_ylabel(f"measured top-1 on {plain(dataset, 24)}, %")
        _reported(figure, below)
        several = sum(m == machine for m, _ in places) > 1
        figure.set_label(slug(dataset) if several else "")
        drawing.figures.append((machine, figure))
    return drawing


def _timed(held: Held, kind: str, key: str, scale: Scale, what: str) -> Drawing:
    drawing = Drawing([], [], [])
    machines: dict[str, list[Row]] = {}
    for row in records(batch_sweep(held.rows)):
        machines.setdefault(row["machine"], []).append(row)
    if not machines:
        drawing.lacking.append(f"{kind}: the results hold no step; nfbench batch-sweep makes them")
    for machine, rows in machines.items():

        def drawn(row: Row) -> tuple[Point | None, Failed | None]:
            return _point(row, key), None if key in row else _failure(row)

        lines = _lines(kind, f"on {plain(machine)}", rows, drawing, drawn)
        if lines:
            of = list(dict.fromkeys(row["peak_memory_of"] for row in rows if "peak_memory_of" in row))
            said = {"allocated": ", allocated on the device", "process": " of the process"}
            whose = " and".join(said[word] for word in of) if key == "peak_memory" else ""
            note = _STEP_NOTE if key != "peak_memory" else ""
            figure, _, _ = draw(lines, scale, f"{plain(machine)}: {what}{whose}", note, half=_HALF)
            drawing.figures.append((machine, figure))
    return drawing


def _lines(
    kind: str,
    where: str,
    rows: Sequence[Row],
    drawing: Drawing,
    drawn: Callable[[Row], tuple[Point | None, Failed | None]],
) -> list[Line]:
    """The nets that have two batches and a value; the rest goes to the drawing with the reason, row by row."""
    nets: dict[str, list[Row]] = {}
    for row in rows:
        nets.setdefault(row["net"], []).append(row)
    styles = looks([(row["net"], row["model"], row.get("family")) for row in rows])
    found: list[Line] = []
    for net, some in nets.items():
        name = f"{kind}: {plain(net)} {where}"
        batches = list(dict.fromkeys(row["batch"] for row in some))
        points, failed, missing = [], [], []
        for row in some:
            point, failure = drawn(row)
            if not 0 < row["batch"] < _LARGEST or (point is None and failure is None):
                missing.append(
                    f"{name}: batch {row['batch']}, {row.get('status', row.get('trained_status'))}, no value"
                )
                continue
            points += [point] if point else []
            failed += [failure] if failure else []
        if len(batches) < 2:
            drawing.lacking.append(f"{name}: batch {batches[0]} only; it takes two")
        elif not points:
            drawing.lacking.append(f"{name}: no value at any of {len(some)} batches")
        elif len(found) == MOST_LINES:
            drawing.left_out.append(f"{name}: a figure has room for {MOST_LINES} lines")
        else:
            found.append(Line(net, styles[net], points, failed))
            drawing.left_out.extend(missing)
    return found


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


def top1_point(row: Row, x: float) -> Point | None:
    """The top-1 of a row in per cent with its interval, cut where no accuracy can be."""
    value = row.get("top1")
    if value is None or not 0 <= value <= 1:
        return None
    low, high = row.get("top1_low"), row.get("top1_high")
    if low is None or high is None:
        return Point(x, 100 * value)
    return Point(x, 100 * value, 100 * max(low, 0.0), 100 * min(high, 1.0))


def top1_failure(row: Row, x: float) -> Failed | None:
    """What of a row's seeds diverged or failed."""
    runs, diverged = row["runs"], row.get("diverged", 0)
    if diverged:
        text = f"{row.get('diverged_at', '')}" if diverged == runs else f"{diverged} of {runs}"
        return Failed(x, "diverged", text)
    status = str(row.get("trained_status", row.get("status"))).replace("_", " ")
    return None if status == "ok" else Failed(x, status)


def runs_note(rows: Sequence[Row], means: str, rest: str) -> str:
    """Seeds, epochs and px of training runs, ``means`` where there are several seeds, ``rest``, and how far it goes."""
    seeds = sorted({row["runs"] for row in rows})
    parts = [_counted(seeds, "seed")]
    if epochs := sorted({row["epochs"] for row in rows if "epochs" in row}):
        parts.append(_counted(epochs, "epoch"))
    if px := sorted({row["px"] for row in rows if "px" in row}):
        parts.append(f"{_ends(px)} px")
    several = any(row.get("top1_low") is not None for row in rows)
    carries = all(row["dataset"] == "imagenet" for row in rows)
    tiny = "tiny nets" if any(row["model"].startswith("tiny-") for row in rows) else ""
    small = "" if carries else " and ".join(filter(None, ["Small data", tiny])) + " do not carry over to ImageNet."
    said = f"{', '.join(parts)}{f'. {means}' if several else '; no interval.'}"
    return " ".join(filter(None, [said, rest, small]))


def _counted(values: Sequence[int], word: str) -> str:
    return f"{_ends(values)} {word}{'s'[: values[-1] != 1]}"


def _ends(values: Sequence[int]) -> str:
    return f"{values[0]}" if len(values) == 1 else f"{values[0]} to {values[-1]}"


def _scaled(rows: Sequence[Row]) -> bool:
    """Whether each net's rate is proportional to its batch."""
    rates: dict[str, list[float]] = {}
    for row in rows:
        if row.get("lr"):
            rates.setdefault(row["net"], []).append(row["lr"] / row["batch"])
    return bool(rates) and all(max(each) <= 1.001 * min(each) for each in rates.values())


def _reported(figure: Figure, place: object) -> None:
    """The paper's Figure 2a in a panel of its own, faint and hollow: ImageNet, other nets, never one line with ours."""
    inner = place.subgridspec(2, 1, height_ratios=[2.0, 0.6])  # type: ignore[attr-defined]
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
    axes.set_ylabel("reported top-1, %")
    axes.set_title(f"ImageNet, reported: not measured here. {published.PAPER}, Figure 2a", loc="left", fontsize=8)
    legend(figure.add_subplot(inner[1]), handles, columns_of(handles)[0])
