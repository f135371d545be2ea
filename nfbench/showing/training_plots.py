"""Top-1 and training loss by epoch: each seed thin, their mean thick, and a cross where a run diverged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from nfbench.analysis import lines
from nfbench.analysis.rows import Row
from nfbench.showing.file_names import distinct, endings
from nfbench.showing.kinds import Drawing, Held
from nfbench.showing.labels import Label, place
from nfbench.showing.row_results import of_training
from nfbench.showing.style import COLOURS, COLUMN, MARKERS, PAGE, apart, in_order, look, plain, series
from nfbench.showing.sweep_lines import columns_of, legend, log_axis
from nfbench.showing.training_curves import Run, held, mean, runs

_MOST = 12
_NUMBERS = 3
"""Updates that are named beside a cross."""
_LOG = 50
"""How many times the least the largest loss must be for a logarithmic axis."""
_BEYOND = 2
"""How many times the largest loss of runs that did not diverge the axis shows of those that did."""


class _Net(NamedTuple):
    row: Row
    runs: list[Run]
    name: str = ""
    colour: str = ""
    marker: str = ""


def training_curves(shown: Held) -> Drawing:
    """The curves of each training run, a line a net, one figure a machine and data set."""
    drawing = Drawing()
    places: dict[tuple[str, str], list[_Net]] = {}
    for made in of_training(shown.trained, shown.results, shown.everything):
        some = runs(made, drawing)
        if some:
            places.setdefault((made.row["machine"], str(made.row["dataset"])), []).append(_Net(made.row, some))
    for ((machine, dataset), nets), ending in zip(places.items(), endings(list(places)), strict=True):
        ordered = sorted(nets, key=lambda net: (-len(net.runs), in_order(net.row)))
        why = f"a figure has room for {_MOST} nets: draw fewer at once, with --where"
        drawing.leave_out((run.row for net in ordered[_MOST:] for run in net.runs), why)
        kept = _told_apart(sorted(ordered[:_MOST], key=lambda net: in_order(net.row)))
        figure = _figure(kept, machine, dataset)
        figure.set_label(ending)
        drawing.figures.append((machine, figure))
        drawing.drawn.extend(run.row for net in kept for run in net.runs)
        drawing.notes += [note for net in kept if (note := _in_no_mean(net, machine, dataset))]
    return drawing


def _in_no_mean(net: _Net, machine: str, dataset: str) -> str:
    without = sum(run.result.status != "ok" for run in net.runs)
    if not 0 < without < len(net.runs):
        return ""
    of = f"{without} of {len(net.runs)} seeds of {net.name}"
    return f"{of} on {plain(machine)}, {plain(dataset, 40)}, {'is' if without == 1 else 'are'} not in the mean"


def _told_apart(nets: Sequence[_Net]) -> list[_Net]:
    """The nets with names, and with looks: the first of a family has its own, and no two have the same marker."""
    rows = [net.row for net in nets]
    batches = len({row["batch"] for row in rows}) > 1
    names = [
        f"{plain(text)}, batch {row['batch']}" if batches else plain(text)
        for row, text in zip(rows, lines.names(rows, swept=()), strict=True)
    ]
    families = [look(series(row["model"], row.get("family"))[1]) for row in rows]
    free = [colour for colour in COLOURS if colour not in dict(families)]
    names = distinct((plain(text, 90) for text in apart(names, rows)), "{} ({})")
    found: list[_Net] = []
    for net, text, (colour, marker) in zip(nets, names, families, strict=True):
        if any(other.colour == colour for other in found) and free:
            colour = free.pop(0)
        if (taken := {other.marker for other in found}) and marker in taken:
            marker = next(m for m in MARKERS if m not in taken)
        found.append(net._replace(name=text, colour=colour, marker=marker))
    return found


def _figure(nets: Sequence[_Net], machine: str, dataset: str) -> Figure:
    every = [run for net in nets for run in net.runs]
    loss = any(held(run.curve("train_loss")) for run in every)
    handles = _handles(nets)
    columns, deep = columns_of(handles, PAGE) if loss else (1, len(handles))
    heights = [3.1, *([1.5] if loss else []), 0.15 + 0.17 * deep]
    figure = Figure(figsize=(PAGE if loss else COLUMN, sum(heights) + 0.5), layout="constrained")
    grid = figure.add_gridspec(len(heights), 1, height_ratios=heights)
    axes = figure.add_subplot(grid[0])
    _curves(axes, nets, "top1", 100)
    _curves(axes, nets, "ema_top1", 100, "--")
    labels = _crosses(axes, nets)
    axes.set_ylabel(f"measured top-1 on {plain(dataset, 24)}, %")
    last = axes
    if loss:
        axes.tick_params(axis="x", labelbottom=False)
        last = figure.add_subplot(grid[1], sharex=axes)
        _curves(last, nets, "train_loss", 1)
        last.set_ylabel("training loss")
        if beyond := _loss_axis(last, every):
            figure.supxlabel(beyond, x=0.01, ha="left", fontsize=7)
    last.set_xlabel("epoch")
    last.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    end = max([1.0, *(len(run.curve("top1")) for run in every), *(run.diverged or 0 for run in every)])
    axes.set_xlim(-0.02 * end if any(run.diverged is not None for run in every) else 1 - 0.02 * end, 1.02 * end)
    legend(figure.add_subplot(grid[-1]), handles, columns)
    what = f"measured top-1{' and training loss' if loss else ''} on {plain(dataset, 30)}"
    figure.suptitle(f"{plain(machine, 44)}: {what}", x=0.01, ha="left", fontsize=9)
    place(figure, {axes: labels})
    return figure


def _loss_axis(axes: Axes, every: Sequence[Run]) -> str:
    """Limits that one run which diverged doesn't press all others flat under, and what is beyond them, if anything."""
    values = [v for run in every for _, v in held(run.curve("train_loss"))]
    sound = [v for run in every if run.result.status == "ok" for _, v in held(run.curve("train_loss"))] or values
    most = max(max(sound), min(max(values), _BEYOND * max(sound)))
    inside = [v for v in values if v <= most]
    if most > _LOG * min(inside):
        log_axis(axes.yaxis, inside, lambda v: f"{v:g}", 10, least=1.0)
    else:
        axes.set_ylim(0, 1.06 * most)
    if max(values) <= most:
        return ""
    return f"Beyond the axis of the loss: up to {max(values):.3g}, of runs that diverged or failed."


def _handles(nets: Sequence[_Net]) -> list[Line2D]:
    every = [run for net in nets for run in net.runs]
    found = [
        Line2D([], [], color=net.colour, marker=net.marker, markersize=5, linewidth=1.8, label=net.name) for net in nets
    ]
    if any(len(net.runs) > 1 for net in nets):
        found.append(Line2D([], [], color="black", linewidth=1.8, label="mean of the seeds"))
        found.append(Line2D([], [], color="black", linewidth=0.6, alpha=0.6, label="a seed"))
    if any(held(run.curve("ema_top1")) for run in every):
        found.append(Line2D([], [], color="black", linewidth=1.2, linestyle="--", label="averaged weights (EMA)"))
    if any(run.diverged is not None for run in every):
        text = "diverged"
        found.append(Line2D([], [], color="black", marker="x", markersize=6, linestyle="none", label=text))
    return found


def _curves(axes: Axes, nets: Sequence[_Net], of: str, scale: float, dash: str = "-") -> None:
    """Draw ``of`` of each net: its seeds thin, and what all that are ok have in common as a thick line."""
    for number, net in enumerate(nets):
        for run in net.runs:
            points = run.points(of)
            if points and dash == "-":
                x, y = zip(*points, strict=True)
                axes.plot(
                    x,
                    [scale * v for v in y],
                    color=net.colour,
                    linewidth=0.6,
                    alpha=0.6,
                    marker=".",
                    markersize=2,
                    label=f"_seed {run.result.seed} {net.name}",
                )
        middle = held(mean(net.runs, of))
        if middle:
            x, y = zip(*middle, strict=True)
            stride = max(1, len(x) // 8)
            axes.plot(
                x,
                [scale * v for v in y],
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
    low, high = axes.get_ylim() if axes.lines else (0.0, 100.0)
    room = 0.06 * (high - low)
    low, high = max(low, 0.0) - room, min(high, 100.0) + room
    axes.set_ylim(low, high)
    labels: list[Label] = []
    for net in nets:
        there = [run for run in net.runs if run.diverged is not None]
        spots: list[tuple[float, float]] = []
        for run in there:
            points, x = run.points("top1"), run.diverged or 0.0
            y = 100 * points[-1][1] if points else low + room / 2
            if points and points[-1][0] < x:
                axes.plot([points[-1][0], x], [y, y], color=net.colour, linewidth=0.6, alpha=0.6, linestyle=":")
            axes.plot([x], [y], color=net.colour, marker="x", markersize=6, linestyle="none", label="_diverged")
            spots.append((x, y))
        if spots:
            updates = [f"{run.result.value('diverged_at'):.0f}" for run in there]
            text = ", ".join(updates[:_NUMBERS]) + (", …" if len(updates) > _NUMBERS else "")
            text = f"update{'s'[: len(updates) != 1]} {text}"
            labels.append(Label(*max(spots), text, net.colour))
    return labels
