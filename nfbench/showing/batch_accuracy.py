"""Top-1 of training runs against batch (the paper's Figure 2a), a line a net: with a clip, and for NF nets without.

Of a net's λs one is drawn before there is room for others, so that the nets stand side by side, batch norm too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, Literal, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nfbench.analysis.rows import Row
from nfbench.analysis.sweeps import batch_sweep
from nfbench.catalog import published
from nfbench.showing.batch_plots import Sweep, each_software, left, room, sweeps_of
from nfbench.showing.file_names import endings
from nfbench.showing.kinds import Drawing, Held
from nfbench.showing.style import MARKERS, REPORTED, look, plain, series
from nfbench.showing.sweep_lines import (
    DASHES,
    MOST_FIGURES,
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

_FEW = 8
"""Lines up to which other λs of the nets are drawn beside the first."""
_Fill = Literal["full", "left", "right", "bottom", "top"]
_FILLS: tuple[tuple[_Fill, Any], ...] = (
    ("full", DASHES[0]),
    ("right", DASHES[1]),
    ("top", DASHES[3]),
    ("bottom", DASHES[4]),
    ("full", DASHES[5]),
)
"""How the λs of a net are told apart, without a clip as `_UNCLIPPED`."""
_UNCLIPPED: tuple[_Fill, Any] = ("left", DASHES[2])
_MEANS = "Means over seeds, bars 95 % intervals of Student's t over them."
_NOTE = (
    "Below: what diverged, with its first such update, and what failed; of a point that stands above too only some"
    " seeds."
)


class _Place(NamedTuple):
    """What a figure is of: accuracy never crosses data sets, nor numbers of epochs."""

    machine: str
    dataset: str
    epochs: int | None


def batch_accuracy(held: Held) -> Drawing:
    """Top-1 against batch, one figure a machine, data set and number of epochs; below what the paper reports."""
    drawing = Drawing()
    places: dict[_Place, list[Row]] = {}
    for row in held.trained:
        places.setdefault(_Place(row["machine"], row["dataset"], row.get("epochs")), []).append(row)
    found: dict[_Place, Figure] = {}
    for here, trained in places.items():
        sweeps = sweeps_of(each_software(trained, lambda rows: batch_sweep((), rows)), drawing, _trained, "top-1")
        if sweeps and len(found) == MOST_FIGURES:
            why = f"there is room for {MOST_FIGURES} figures: draw fewer at once, with --where"
            drawing.leave_out((row for sweep in sweeps for row in sweep.rows), why)
        elif sweeps:
            found[here] = _figure(here, sweeps, drawing)
    for (here, figure), ending in zip(found.items(), endings([_of(here) for here in found]), strict=True):
        figure.set_label(ending)
        drawing.figures.append((here.machine, figure))
    return drawing


def _figure(here: _Place, sweeps: Sequence[Sweep], drawing: Drawing) -> Figure:
    kept = _kept(sweeps)
    why = room(f"{len(kept)} lines")
    names = {sweep.net for sweep in kept}
    drawing.leave_out((row for sweep in sweeps if sweep.net not in names for row in sweep.rows), why)
    shown = [row for sweep in kept for row in sweep.rows]
    drawing.drawn.extend(shown)
    drawing.notes.extend(lost(row) for row in shown if row.get("seeds", 0) < row["runs"] and "top1" in row)
    title = f"{plain(here.machine, 44)}: measured top-1 on {plain(here.dataset, 40)}"
    title += f" after {here.epochs} epoch{'s'[: here.epochs != 1]}" if here.epochs else ""
    title += ", the rate scaled with the batch" if _scaled(shown) else ""
    note = f"{runs_note(shown, _MEANS, _NOTE)} {left(len(sweeps) - len(kept))}".strip()
    styles = _looks(kept)
    some = [Line(sweep.net, styles[sweep.net], sweep.points, sweep.failed) for sweep in kept]
    figure, _, below = draw(some, Scale("measured top-1, %", number, 100), title, note, below=3.08, said="measured")
    _reported(figure, below)
    return figure


def _kept(sweeps: Sequence[Sweep]) -> list[Sweep]:
    """Those that there is room for, in their order: of each net the λ of the most batches, of several the best; then NF
    nets without a clip, which is what the figure asks about; then other λs, as long as the lines are few."""
    nets: dict[str, list[Sweep]] = {}
    for sweep in sweeps:
        nets.setdefault(_net(sweep), []).append(sweep)
    ranks: tuple[list[Sweep], list[Sweep], list[Sweep]] = ([], [], [])
    for some in nets.values():
        ordered = sorted(some, key=_worth, reverse=True)
        if ordered[0].rows[0].get("norm") == "none":
            # with a clip first, whatever is better
            ordered.sort(key=_unclipped)
        ranks[0].append(ordered[0])
        for sweep in ordered[1:]:
            asked = _unclipped(sweep) and sweep.rows[0].get("norm") == "none"
            ranks[1 if asked else 2].append(sweep)
    first = [*ranks[0], *ranks[1]][:MOST_LINES]
    chosen = [*first, *sorted(ranks[2], key=_worth, reverse=True)[: max(0, _FEW - len(first))]]
    names = {sweep.net for sweep in chosen}
    return [sweep for sweep in sweeps if sweep.net in names]


def _worth(sweep: Sweep) -> tuple[int, int, float]:
    values = [point.y for point in sweep.points]
    return len({row["batch"] for row in sweep.rows}), len(values), fmean(values) if values else 0.0


def _unclipped(sweep: Sweep) -> bool:
    return sweep.rows[0].get("agc") == "none"


def _net(sweep: Sweep) -> str:
    """What it is a λ of."""
    return ", ".join(part for part in sweep.net.split(", ") if not part.startswith("λ "))


def _looks(sweeps: Sequence[Sweep]) -> Mapping[str, Look]:
    """The look of each line by its name: the colour by family, the marker by net, the fill and the dash by λ.

    The first net of a family has the family's marker.
    """
    markers: dict[str, str] = {}
    free = list(MARKERS)
    of = {sweep.net: _net(sweep) for sweep in sweeps}
    rows = {sweep.net: sweep.rows[0] for sweep in sweeps}
    families = {name: look(series(row["model"], row.get("family"))[1]) for name, row in rows.items()}
    own = {marker for _, marker in families.values()}
    found: dict[str, Look] = {}
    for sweep in sweeps:
        colour, marker = families[sweep.net]
        net = of[sweep.net]
        if net not in markers:
            others = (m for m in free if m not in own)
            markers[net] = marker if marker in free else next(others, free[0] if free else marker)
            free = [m for m in free if m != markers[net]]
        used = [(look.fill, look.dash) for name, look in found.items() if of[name] == net]
        styles = (_UNCLIPPED,) if _unclipped(sweep) and rows[sweep.net].get("norm") == "none" else _FILLS
        fill, dash = next((style for style in (*styles, *_FILLS) if style not in used), styles[0])
        found[sweep.net] = Look(colour, markers[net], dash, fill)
    return found


def _of(place: _Place) -> tuple[object, ...]:
    """What a figure is of, in the words of its file's name."""
    return place.machine, place.dataset, f"{place.epochs}-epoch{'s'[: place.epochs != 1]}"


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
        _, marker = look(net.rstrip("0123456789"))
        style = Look(REPORTED, marker, "-" if agc == "yes" or "nf" not in net else ":")
        faint: dict[str, Any] = {"markerfacecolor": "white", "alpha": 0.8, "markersize": 4.5}
        faint["linewidth"] = 1.8 if net.endswith("200") else 0.8
        there = [(batch, top1) for batch, top1 in points if top1 is not None]
        axes.plot(*zip(*there, strict=True), color=REPORTED, marker=marker, linestyle=style.dash, **faint)
        fallen = [batch for batch, top1 in points if top1 is None]
        axes.plot(fallen, [floor + 0.25] * len(fallen), color=REPORTED, marker="x", linestyle="none", alpha=0.8)
        handles.append(handle(f"{net}{' with AGC' if agc == 'yes' else ''}", style, **faint))
    handles.append(handle("collapses (below 70 %)", Look(REPORTED, "x", "none"), alpha=0.8))
    axes.set_xscale("log", base=2)
    axes.set_xticks([256, 512, 1024, 2048, 4096], ["256", "512", "1,024", "2,048", "4,096"])
    axes.minorticks_off()
    axes.set_ylim(floor, 80.2)
    axes.set_xlabel("batch, images an update")
    axes.set_ylabel("reported top-1, %")
    axes.set_title(f"ImageNet, reported: not measured here. {published.PAPER}, Figure 2a", loc="left", fontsize=8)
    legend(figure.add_subplot(inner[1]), handles, columns_of(handles)[0], "grey and hollow: reported, on ImageNet")
