"""Where the time of a step goes: a stacked bar a row, in milliseconds and as shares of the step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.transforms import blended_transform_factory

from nfbench import units
from nfbench.analysis.rows import Row
from nfbench.records import PHASES
from nfbench.showing.kinds import Drawing, Held
from nfbench.showing.plots import each_machine
from nfbench.showing.row_names import height, labels
from nfbench.showing.style import PAGE, drawable, plain

_MOST = 30
_FITS = 0.07
"""The share of a step from which on it can be written into its segment."""
_REST = "rest"
_HIGH = 0.7
"""Of a row, how high its bar is."""


class _Look(NamedTuple):
    colour: str
    hatch: str
    text: str


# told apart in grey by how dark they are and by their hatch
_LOOKS = {
    "ascent": _Look("#CC79A7", "---", "ascent (SAM)"),
    "forward": _Look("#0072B2", "", "forward"),
    "backward": _Look("#56B4E9", "//", "backward"),
    "clip": _Look("#D55E00", "xxxx", "clip (AGC)"),
    "update": _Look("#F0E442", "..", "update"),
    "average": _Look("#009E73", "++", "average (EMA)"),
    _REST: _Look("white", "", "rest of the step"),
}
_NOTE = "Each phase is a median of its own, so that they need not add up to the step, whose median stands at the bar."


def phases(held: Held) -> Drawing:
    """Forward, backward, clip and the other phases of each row's step, one figure a machine."""
    return each_machine(held, _MOST, _figure, _lacks)


def _lacks(row: Row) -> str:
    timed = any(drawable(row.get(phase)) for phase in PHASES)
    return "" if timed else "no time of a phase, as under a CUDA graph"


def parts(row: Row) -> dict[str, float]:
    """Seconds of each phase that was read, and of the rest where the step takes longer than they do together."""
    found = {phase: row[phase] for phase in PHASES if drawable(row.get(phase))}
    rest = row["step_time"] - sum(found.values())
    return found | ({_REST: rest} if rest > 0 else {})


def _figure(rows: Sequence[Row], machine: str) -> Figure:
    held = [parts(row) for row in rows]
    used = [phase for phase in _LOOKS if any(phase in own for own in held)]
    names = labels(rows)
    heights = [0.5 + height(names) * len(rows), 0.45]
    figure = Figure(figsize=(PAGE, sum(heights) + 0.4), layout="constrained")
    grid = figure.add_gridspec(2, 2, height_ratios=heights, width_ratios=(1, 1.5))
    times = figure.add_subplot(grid[0, 0])
    shares = figure.add_subplot(grid[0, 1], sharey=times)
    longest = max(max(row["step_time"], sum(own.values())) for row, own in zip(rows, held, strict=True))
    widest = max(sum(own.values()) / row["step_time"] for row, own in zip(rows, held, strict=True))
    for place, (row, own) in enumerate(zip(rows, held, strict=True)):
        _write(times, 1e3 * sum(own.values()), place, units.seconds(row["step_time"], 3))
        at = 0.0
        for phase, seconds in own.items():
            share = seconds / row["step_time"]
            if share >= _FITS and phase != "clip":
                _inside(shares, 100 * (at + share / 2), place, f"{100 * share:.0f}", phase)
            at += share
        _write(
            shares, 100 * widest, place, f"clip {_per_cent(own['clip'] / row['step_time'])}" if "clip" in own else ""
        )
    _stack(times, held, [1e3] * len(rows))
    _stack(shares, held, [100 / row["step_time"] for row in rows])
    times.set_yticks(range(len(rows)), names, fontsize=7.5)
    times.set_ylim(len(rows) - 0.4, -0.6)
    times.set_xlim(0, 1.32e3 * longest)
    times.set_xlabel("time of the phases, ms")
    times.locator_params(axis="x", nbins=4)
    shares.set_xlim(0, 128 * widest)
    shares.set_xticks(range(0, 101, 20))
    shares.set_xlabel("share of the step, %")
    shares.tick_params(axis="y", labelleft=False)
    for axes in (times, shares):
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
    _legend(figure, figure.add_subplot(grid[1, :]), used)
    ranks = " Phases are those of rank 0." if any(row.get("world_size", 1) > 1 for row in rows) else ""
    figure.suptitle(f"{plain(machine)}: measured phases of a step", x=0.01, ha="left", fontsize=9)
    figure.supxlabel(_NOTE + ranks, x=0.01, ha="left", fontsize=7)
    return figure


def _legend(figure: Figure, axes: Axes, phases: Sequence[str]) -> None:
    handles = [
        Patch(facecolor=look.colour, hatch=look.hatch, edgecolor="black", linewidth=0.5, label=look.text)
        for look in (_LOOKS[phase] for phase in phases)
    ]
    axes.axis("off")
    # centred in the figure: the labels of an axis above leave this one narrower
    across = blended_transform_factory(figure.transFigure, axes.transAxes)
    axes.legend(
        handles=handles,
        loc="center",
        bbox_to_anchor=(0.5, 0.5),
        bbox_transform=across,
        ncols=4,
        fontsize=7.5,
        frameon=False,
    ).set_in_layout(False)


def _stack(axes: Axes, rows: Sequence[dict[str, float]], scales: Sequence[float]) -> None:
    """Draw a bar a row of its parts end to end: one artist a phase, since each takes its time."""
    bars: dict[str, list[list[tuple[float, float]]]] = {}
    for place, (own, scale) in enumerate(zip(rows, scales, strict=True)):
        at = 0.0
        for phase, seconds in own.items():
            left, right, low, high = scale * at, scale * (at + seconds), place - _HIGH / 2, place + _HIGH / 2
            bars.setdefault(phase, []).append([(left, low), (left, high), (right, high), (right, low)])
            at += seconds
    for phase, corners in bars.items():
        look = _LOOKS[phase]
        drawn = PolyCollection(corners, facecolor=look.colour, hatch=look.hatch, edgecolor="black", linewidth=0.3)
        drawn.set_label(f"_{phase}")
        axes.add_collection(drawn)


def _inside(axes: Axes, x: float, place: int, text: str, phase: str) -> None:
    dark = phase == "forward"
    behind = None if dark else {"facecolor": "white", "edgecolor": "none", "pad": 0.6}
    written = axes.text(x, place, text, ha="center", va="center", fontsize=7, color="white" if dark else "black")
    written.set_bbox(behind)
    written.set_in_layout(False)


def _write(axes: Axes, x: float, place: int, text: str) -> None:
    written = axes.annotate(text, (x, place), xytext=(3, 0), textcoords="offset points", va="center", fontsize=7)
    # the limits leave room for it
    written.set_in_layout(False)


def _per_cent(share: float) -> str:
    return "below 0.1 %" if share < 5e-4 else units.percent(share, 2)
