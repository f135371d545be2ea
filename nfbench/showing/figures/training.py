"""Top-1 and training loss by epoch: each seed thin, their mean thick, and a cross where a run diverged."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan
from typing import Any, NamedTuple

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nfbench.analysis import sweeps
from nfbench.analysis.rows import Row
from nfbench.showing.figures.canvas import Label, Picture, bare, entry, log_axis
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


def training_curves(rows: list[Row], notes: list[str]) -> Picture:
    """The curves of each training run, a line a net."""
    dataset = str(rows[0]["dataset"])
    nets = _nets(rows)
    for net in nets:
        failed = sum(run["status"] != "ok" for run in net.runs)
        if 0 < failed < len(net.runs):
            where = f"{net.name} on {plain(rows[0]['machine'])}, {plain(dataset, 40)}"
            are = "is" if failed == 1 else "are"
            notes.append(f"{failed} of {len(net.runs)} seeds of {where}, {are} not in the mean")
    loss = any(_points(row, "train_loss") for row in rows)
    figure = Figure(figsize=(PAGE, 4.8) if loss else (COLUMN, 3.3), layout="constrained")
    panels = figure.subplots(1 + loss, 1, squeeze=False, sharex=True, height_ratios=[3.1, 1.5][: 1 + loss])
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
    title = f"measured top-1{' and training loss' if loss else ''} on {plain(dataset, 30)}"
    return Picture(figure, title, beyond, _handles(nets, rows), {axes: labels})


def _nets(rows: Sequence[Row]) -> list[_Net]:
    """The nets with names, and with looks: the first of a family has its own, and no two have the same marker."""
    runs = list(grouped(rows, lambda row: row["of"]).values())
    nets_rows = [seeds[0]["row"] for seeds in runs]
    names = [plain(name) for name in sweeps.names(nets_rows, swept=())]
    if len({row["batch"] for row in nets_rows}) > 1:
        names = [f"{name}, batch {row['batch']}" for name, row in zip(names, nets_rows, strict=True)]
    texts = distinct((plain(text, 90) for text in apart(names, nets_rows)), "{} ({})")
    families = [look(series(row["model"], row.get("family"))[1]) for row in nets_rows]
    free = [colour for colour in COLOURS if colour not in dict(families)]
    nets: list[_Net] = []
    for seeds, text, (colour, marker) in zip(runs, texts, families, strict=True):
        if any(other.colour == colour for other in nets) and free:
            colour = free.pop(0)
        taken = {other.marker for other in nets}
        marker = marker if marker not in taken else next(m for m in MARKERS if m not in taken)
        nets.append(_Net(seeds, text, colour, marker))
    return nets


def _points(run: Row, name: str) -> list[tuple[float, float]]:
    """The values of a run with their epochs, from 1; one in which it diverged was evaluated where it broke off."""
    end = run["diverged_in"]
    values = enumerate(by_epoch(run, name), 1)
    return [(epoch if end is None else min(epoch, end), v) for epoch, v in values if not isnan(v)]


def _curves(axes: Axes, nets: Sequence[_Net], of: str, scale: float, dash: str = "-") -> None:
    """Draw ``of`` of each net: its seeds thin, and what all that are ok have in common as a thick line."""
    whole = dash == "-"
    for number, net in enumerate(nets):
        for run in net.runs if whole else ():
            points = _points(run, of)
            style = {"color": net.colour, "linewidth": 0.6, "alpha": 0.6, "marker": ".", "markersize": 2}
            label = f"_seed {run['seed']} {net.name}"
            axes.plot([x for x, _ in points], [scale * y for _, y in points], label=label, **style)  # type: ignore[arg-type]
        sound = [by_epoch(run, of) for run in net.runs if run["status"] == "ok"]
        # as far as all of them have a value
        means = enumerate((scale * sum(each) / len(each) for each in zip(*sound, strict=False)), 1)
        points = [(epoch, mean) for epoch, mean in means if not isnan(mean)]
        # so that the markers of lines that lie together do not
        stride = max(1, len(points) // 8)
        style = {"color": net.colour, "linestyle": dash, "marker": net.marker, "markevery": (number % stride, stride)}
        style |= {"linewidth": 1.8 if whole else 1.2, "markersize": 5 if whole else 3.5, "zorder": 3}
        axes.plot([x for x, _ in points], [y for _, y in points], label=f"_{of} {net.name}", **style)


def _crosses(axes: Axes, nets: Sequence[_Net]) -> list[Label]:
    """Draw a cross where each run diverged, at its last top-1 or else at the bottom; returns what stands beside."""
    low, high = axes.get_ylim() if any(len(line.get_xdata()) for line in axes.lines) else (0.0, 100.0)  # type: ignore[arg-type]
    room = 0.06 * (high - low)
    low, high = max(low, 0.0) - room, min(high, 100.0) + room
    axes.set_ylim(low, high)
    labels: list[Label] = []
    for net in nets:
        diverged = [run for run in net.runs if run["diverged_in"] is not None]
        spots: list[tuple[float, float]] = []
        for run in diverged:
            x = run["diverged_in"]
            last, y = ([(x, low + room / 2)] + [(epoch, 100 * top) for epoch, top in _points(run, "top1")])[-1]
            axes.plot([last, x], [y, y], color=net.colour, linewidth=0.6, alpha=0.6, linestyle=":")
            axes.plot([x], [y], color=net.colour, marker="x", markersize=6, linestyle="none", label="_diverged")
            spots.append((x, y))
        if spots:
            updates = [f"{run['result'].value('diverged_at'):.0f}" for run in diverged]
            text = ", ".join(updates[:_NUMBERS]) + (", …" if len(updates) > _NUMBERS else "")
            labels.append(Label(*max(spots), f"update{'s'[: len(updates) != 1]} {text}", net.colour))
    return labels


def _loss_axis(axes: Axes, rows: Sequence[Row]) -> str:
    """Limits that one run which diverged doesn't press all others flat under, and what is beyond them, if anything."""
    values = [v for row in rows for _, v in _points(row, "train_loss")]
    sound = [v for row in rows if row["status"] == "ok" for _, v in _points(row, "train_loss")] or values
    most = max(max(sound), min(max(values), _BEYOND * max(sound)))
    inside = [v for v in values if v <= most]
    if most > _LOG * min(inside):
        log_axis(axes.yaxis, inside, bare)
    else:
        axes.set_ylim(0, 1.06 * most)
    if max(values) <= most:
        return ""
    return f"Beyond the axis of the loss: up to {max(values):.3g}, of runs that diverged or failed."


def _handles(nets: Sequence[_Net], rows: Sequence[Row]) -> list[Artist]:
    entries: list[tuple[str, dict[str, Any], bool]]
    entries = [(net.name, {"color": net.colour, "marker": net.marker, "linewidth": 1.8}, True) for net in nets]
    several = any(len(net.runs) > 1 for net in nets)
    averaged = any(_points(row, "ema_top1") for row in rows)
    diverged = any(row["diverged_in"] is not None for row in rows)
    entries += [
        ("mean of the seeds", {"linewidth": 1.8}, several),
        ("a seed", {"linewidth": 0.6, "alpha": 0.6}, several),
        ("averaged weights (EMA)", {"linewidth": 1.2, "linestyle": "--"}, averaged),
        ("diverged", {"marker": "x", "markersize": 6, "linestyle": "none"}, diverged),
    ]
    return [entry(text, **({"color": "black", "markersize": 5} | style)) for text, style, there in entries if there]
