"""Top-1 and training loss by epoch: each seed thin, their mean thick, and a cross where a run diverged."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan
from typing import NamedTuple

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from nfbench.analysis import sweeps
from nfbench.analysis.rows import Row
from nfbench.showing.figures.canvas import Label, bare, frame, log_axis, place
from nfbench.showing.figures.prepared import by_epoch
from nfbench.showing.figures.style import COLOURS, COLUMN, MARKERS, PAGE, apart, distinct, look, plain, series
from nfbench.units import grouped

_NUMBERS = 3
"""Updates that are named beside a cross."""
_LOG = 50
"""How many times the least the largest loss must be for a logarithmic axis."""
_BEYOND = 2
"""How many times the largest loss of runs that did not diverge the axis shows of those that did."""


class _Net(NamedTuple):
    runs: Sequence[Row]
    name: str
    colour: str
    marker: str


def training_curves(rows: list[Row], notes: list[str]) -> Figure:
    """The curves of each training run, a line a net."""
    machine, dataset = rows[0]["machine"], str(rows[0]["dataset"])
    nets = _nets(rows)
    notes += [note for net in nets if (note := _in_no_mean(net, machine, dataset))]
    loss = any(map(_held, (by_epoch(row, "train_loss") for row in rows)))
    figure = Figure(figsize=(PAGE if loss else COLUMN, 4.8 if loss else 3.3), layout="constrained")
    ratios = [3.1, 1.5] if loss else [1]
    panels = figure.subplots(len(ratios), 1, squeeze=False, sharex=True, height_ratios=ratios)
    axes, last = panels[0, 0], panels[-1, 0]
    _curves(axes, nets, "top1", 100)
    _curves(axes, nets, "ema_top1", 100, "--")
    labels = _crosses(axes, nets)
    axes.set_ylabel(f"measured top-1 on {plain(dataset, 24)}, %")
    beyond = ""
    if loss:
        _curves(last, nets, "train_loss", 1)
        last.set_ylabel("training loss")
        beyond = _loss_axis(last, rows)
    last.set_xlabel("epoch")
    last.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    diverged = [row["diverged_in"] for row in rows if row["diverged_in"] is not None]
    end = max([1.0, *(len(by_epoch(row, "top1")) for row in rows), *diverged])
    axes.set_xlim(-0.02 * end if diverged else 1 - 0.02 * end, 1.02 * end)
    what = f"measured top-1{' and training loss' if loss else ''} on {plain(dataset, 30)}"
    frame(figure, f"{plain(machine, 44)}: {what}", beyond, _handles(nets, rows))
    notes.extend(place(figure, {axes: labels}))
    return figure


def _in_no_mean(net: _Net, machine: str, dataset: str) -> str:
    failed = sum(run["status"] != "ok" for run in net.runs)
    if not 0 < failed < len(net.runs):
        return ""
    of = f"{failed} of {len(net.runs)} seeds of {net.name}"
    return f"{of} on {plain(machine)}, {plain(dataset, 40)}, {'is' if failed == 1 else 'are'} not in the mean"


def _nets(rows: Sequence[Row]) -> list[_Net]:
    """The nets with names, and with looks: the first of a family has its own, and no two have the same marker."""
    runs = list(grouped(rows, lambda row: row["of"]).values())
    made = [seeds[0]["row"] for seeds in runs]
    batches = len({row["batch"] for row in made}) > 1
    names = [
        f"{plain(text)}, batch {row['batch']}" if batches else plain(text)
        for row, text in zip(made, sweeps.names(made, swept=()), strict=True)
    ]
    families = [look(series(row["model"], row.get("family"))[1]) for row in made]
    free = [colour for colour in COLOURS if colour not in dict(families)]
    nets: list[_Net] = []
    texts = distinct((plain(text, 90) for text in apart(names, made)), "{} ({})")
    for seeds, text, (colour, marker) in zip(runs, texts, families, strict=True):
        if any(other.colour == colour for other in nets) and free:
            colour = free.pop(0)
        if marker in (taken := {other.marker for other in nets}):
            marker = next(m for m in MARKERS if m not in taken)
        nets.append(_Net(seeds, text, colour, marker))
    return nets


def _held(values: Sequence[float]) -> list[tuple[float, float]]:
    """The epochs, from 1, that have a value, with it."""
    return [(epoch, v) for epoch, v in enumerate(values, 1) if not isnan(v)]


def _points(run: Row, name: str) -> list[tuple[float, float]]:
    """The values of a run with their epochs; one in which it diverged was evaluated where it broke off."""
    end = run["diverged_in"]
    return [(epoch if end is None else min(epoch, end), v) for epoch, v in _held(by_epoch(run, name))]


def _curves(axes: Axes, nets: Sequence[_Net], of: str, scale: float, dash: str = "-") -> None:
    """Draw ``of`` of each net: its seeds thin, and what all that are ok have in common as a thick line."""
    for number, net in enumerate(nets):
        for run in net.runs if dash == "-" else ():
            x, y = [epoch for epoch, _ in _points(run, of)], [scale * v for _, v in _points(run, of)]
            (thin,) = axes.plot(
                x, y, color=net.colour, label=f"_seed {run['seed']} {net.name}", marker=".", markersize=2
            )
            thin.set(linewidth=0.6, alpha=0.6)
        sound = [by_epoch(run, of) for run in net.runs if run["status"] == "ok"]
        # as far as all of them have a value
        middle = _held([sum(each) / len(each) for each in zip(*sound, strict=False)])
        stride = max(1, len(middle) // 8)
        axes.plot(
            [epoch for epoch, _ in middle],
            [scale * v for _, v in middle],
            color=net.colour,
            linewidth=1.8 if dash == "-" else 1.2,
            linestyle=dash,
            marker=net.marker,
            markersize=5 if dash == "-" else 3.5,
            # so that the markers of lines that lie together do not
            markevery=(number % stride, stride),
            label=f"_{of} {net.name}",
            zorder=3,
        )


def _crosses(axes: Axes, nets: Sequence[_Net]) -> list[Label]:
    """Draw a cross where each run diverged, at its last top-1 or else at the bottom; returns what stands beside."""
    low, high = axes.get_ylim() if any(len(line.get_xdata()) for line in axes.lines) else (0.0, 100.0)  # type: ignore[arg-type]
    room = 0.06 * (high - low)
    low, high = max(low, 0.0) - room, min(high, 100.0) + room
    axes.set_ylim(low, high)
    labels: list[Label] = []
    for net in nets:
        there = [run for run in net.runs if run["diverged_in"] is not None]
        spots: list[tuple[float, float]] = []
        for run in there:
            points, x = _points(run, "top1"), run["diverged_in"]
            y = 100 * points[-1][1] if points else low + room / 2
            if points and points[-1][0] < x:
                axes.plot([points[-1][0], x], [y, y], color=net.colour, linewidth=0.6, alpha=0.6, linestyle=":")
            axes.plot([x], [y], color=net.colour, marker="x", markersize=6, linestyle="none", label="_diverged")
            spots.append((x, y))
        if spots:
            updates = [f"{run['result'].value('diverged_at'):.0f}" for run in there]
            text = ", ".join(updates[:_NUMBERS]) + (", …" if len(updates) > _NUMBERS else "")
            labels.append(Label(*max(spots), f"update{'s'[: len(updates) != 1]} {text}", net.colour))
    return labels


def _loss_axis(axes: Axes, rows: Sequence[Row]) -> str:
    """Limits that one run which diverged doesn't press all others flat under, and what is beyond them, if anything."""
    values = [v for row in rows for _, v in _held(by_epoch(row, "train_loss"))]
    sound = [v for row in rows if row["status"] == "ok" for _, v in _held(by_epoch(row, "train_loss"))] or values
    most = max(max(sound), min(max(values), _BEYOND * max(sound)))
    inside = [v for v in values if v <= most]
    if most > _LOG * min(inside):
        log_axis(axes.yaxis, inside, bare, 10, least=1.0)
    else:
        axes.set_ylim(0, 1.06 * most)
    if max(values) <= most:
        return ""
    return f"Beyond the axis of the loss: up to {max(values):.3g}, of runs that diverged or failed."


def _handles(nets: Sequence[_Net], rows: Sequence[Row]) -> list[Artist]:
    handles: list[Artist] = [
        Line2D([], [], color=net.colour, marker=net.marker, markersize=5, linewidth=1.8, label=net.name) for net in nets
    ]
    if any(len(net.runs) > 1 for net in nets):
        handles.append(Line2D([], [], color="black", linewidth=1.8, label="mean of the seeds"))
        handles.append(Line2D([], [], color="black", linewidth=0.6, alpha=0.6, label="a seed"))
    if any(map(_held, (by_epoch(row, "ema_top1") for row in rows))):
        handles.append(Line2D([], [], color="black", linewidth=1.2, linestyle="--", label="averaged weights (EMA)"))
    if any(row["diverged_in"] is not None for row in rows):
        handles.append(Line2D([], [], color="black", marker="x", markersize=6, linestyle="none", label="diverged"))
    return handles
