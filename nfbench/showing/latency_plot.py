"""Measured top-1 against the measured time of a training step (the paper's Figure 1): families as lines.

Accuracy comes from training runs and the time from timed steps of the same machine: they are joined by model. What the
paper reports stands behind them where it compares, on ImageNet at its batch, and else in a panel of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import count
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nfbench import units
from nfbench.analysis import lines
from nfbench.analysis.rows import Row
from nfbench.devices.about import slug
from nfbench.showing import reported_latency
from nfbench.showing.accuracy_panel import family_handles
from nfbench.showing.kinds import Drawing, Held, without
from nfbench.showing.labels import Label, place, unlabelled
from nfbench.showing.style import COLUMN, in_order, interval, look, plain, series
from nfbench.showing.sweep_lines import (
    MOST_FIGURES,
    accuracy_axis,
    columns_of,
    entitle,
    legend,
    log_axis,
)
from nfbench.showing.timed_steps import TimedSteps
from nfbench.showing.trained import lost, top1_point

_PLACE = ("machine", "dataset", "weights", "px", "test_px")
_ANY_PX = 2
"""How many of `_PLACE` tell figures of ImageNet apart, where each net has a px of its own."""
_ONE_LINE = ("batch", "agc", "epochs", "recipe", "optimizer", "schedule", "augment", "norm")
"""Runs that differ in one of these are no sizes of one family."""
_MOST = 24
"""Points that a figure has room for the labels of."""

_Place = tuple[object, ...]


class Joined(NamedTuple):
    """A training run with the name of its net and the quickest of its steps at each batch."""

    name: str
    run: Row
    steps: dict[int, Row]


class Shown(NamedTuple):
    """A training run with the step that it is set against."""

    name: str
    run: Row
    step: Row


def accuracy_vs_latency(held: Held) -> Drawing:
    """Top-1 of training runs against the step time of the same nets, one figure a machine, data set, px and weights.

    The steps are of one batch: that which most nets were timed at. Of several runs of a net that differ in batch or λ
    the one at this batch is drawn, else the most accurate. A figure takes two nets.
    """
    drawing = Drawing()
    found: dict[_Place, Figure] = {}
    for here, joined in _places(held, drawing).items():
        batch = _batch(joined)
        shown = _chosen([Shown(j.name, j.run, j.steps[batch]) for j in joined if batch in j.steps], batch)
        if len(shown) < 2:
            drawing.leave_out((j.run for j in joined), "one net only; it takes two")
            continue
        kept = {id(one.run) for one in shown[:_MOST]} if len(found) < MOST_FIGURES else set()
        timed = {one.name for one in shown}
        for name, run, steps in joined:
            if id(run) in kept:
                drawing.drawn.append(run)
                drawing.notes.extend([lost(run)] if run["seeds"] < run["runs"] else [])
            elif batch not in steps and name not in timed:
                drawing.leave_out([run], f"no step time at batch {batch}, which most were timed at")
            elif all(one.run is not run for one in shown):
                drawing.leave_out([run], "another run of that net is drawn")
            else:
                why = f"there is room for {MOST_FIGURES} figures of {_MOST} nets: draw fewer at once, with --where"
                drawing.leave_out([run], why)
        if kept:
            found[here], crowded = _figure(shown[:_MOST], batch)
            drawing.notes.extend(unlabelled(crowded))
    for (machine, *_), figure in _ended(found).items():
        drawing.figures.append((str(machine), figure))
    return drawing


def _places(held: Held, drawing: Drawing) -> dict[_Place, list[Joined]]:
    """The runs with a top-1 and a step time, by the figure that they belong in; the rest is left out."""
    runs: dict[_Place, list[Row]] = {}
    for run in held.trained:
        if top1_point(run, 0.0) is None:
            drawing.leave_out([run], without(run, "top-1"))
        else:
            keys = _PLACE[: _ANY_PX + 1] if run["dataset"] == "imagenet" else _PLACE
            runs.setdefault(tuple(run.get(key) for key in keys), []).append(run)
    steps = TimedSteps(held.rows if held.partners is None else held.partners)
    found: dict[_Place, list[Joined]] = {}
    for here, some in runs.items():
        for run, name in zip(some, lines.names(some, swept=("batch", "agc")), strict=True):
            if its := steps.of(run):
                found.setdefault(here, []).append(Joined(name, run, its))
            else:
                drawing.leave_out([run], steps.why_none(run))
    if held.partners is None and (number := steps.unused()):
        drawing.notes.append(f"{number} row{'s'[: number != 1]} of steps: no training run of these nets")
    return found


def _batch(joined: Sequence[Joined]) -> int:
    """The batch at which the most nets were timed; of several the runs' own, then the paper's, then the smallest."""
    each = {(j.name, id(j.steps)): j for j in joined}.values()
    timed = Counter(batch for batch, _ in {(batch, j.name) for j in each for batch in j.steps})
    own = Counter(j.run["batch"] for j in joined)
    return max(timed, key=lambda batch: (timed[batch], own[batch], batch == reported_latency.BATCH, -batch))


def _chosen(shown: Sequence[Shown], batch: int) -> list[Shown]:
    """One run a net."""
    nets: dict[str, list[Shown]] = {}
    for one in shown:
        nets.setdefault(one.name, []).append(one)
    best = [max(some, key=lambda one: (one.run["batch"] == batch, one.run["top1"])) for some in nets.values()]
    return sorted(best, key=lambda one: (in_order(one.run), one.step["step_time"]))


def _ended(found: dict[_Place, Figure]) -> dict[_Place, Figure]:
    """The figures, each labelled by what tells it apart from the others of its machine."""
    used: set[tuple[object, str]] = set()
    for here, figure in found.items():
        same = [other for other in found if other[0] == here[0]]
        differ = [str(v) for i, v in enumerate(here) if len({other[i : i + 1] for other in same}) > 1]
        name = slug("-".join(differ)) if differ else ""
        ending = next(e for i in count(1) if (here[0], e := f"{name}-{i}" if i > 1 else name) not in used)
        used.add((here[0], ending))
        figure.set_label(ending)
    return found


def _figure(shown: Sequence[Shown], batch: int) -> tuple[Figure, list[Label]]:
    """The figure, and the labels that it had no room for."""
    first = shown[0].run
    behind = first["dataset"] == "imagenet" and batch == reported_latency.BATCH
    handles = family_handles([one.run for one in shown])
    others = len(reported_latency.families())
    deep = columns_of([*handles, *[handles[0]] * others * behind])[1]
    heights = [3.2, 0.1 + 0.16 * deep, *([] if behind else [2.2, 0.4])]
    figure = Figure(figsize=(COLUMN, sum(heights) + 0.3), layout="constrained")
    grid = figure.add_gridspec(len(heights), 1, height_ratios=heights)
    title = f"{plain(first['machine'], 44)}: measured top-1 on {plain(first['dataset'], 30)} against training step time"
    entitle(figure, title, _note(shown, batch, behind))
    axes = figure.add_subplot(grid[0])
    wanted = _draw(axes, shown)
    labels: dict[Axes, Sequence[Label]] = {axes: wanted}
    x = [time for one in shown for time in (one.step["step_time"], *(interval(one.step) or ()))]
    points = [point for one in shown if (point := top1_point(one.run, 0.0)) is not None]
    y = [value for point in points for value in (point.y, point.low, point.high) if value is not None]
    if behind:
        more, wants = reported_latency.draw(axes)
        handles, labels[axes] = [*handles, *more], [*wanted, *wants]
        for theirs in (p for some in reported_latency.families().values() for p in some):
            x.append(theirs.seconds)
            y.append(theirs.top1)
    log_axis(axes.xaxis, x, lambda v: units.si(v, "s", 1), 10, least=1.2)
    accuracy_axis(axes, y, room=0.14)
    axes.set_xlabel(f"{'' if behind else 'measured '}time of a training step, batch {batch}")
    axes.set_ylabel("ImageNet top-1, %" if behind else "measured top-1, %")
    legend(figure.add_subplot(grid[1]), handles, columns_of(handles)[0])
    if not behind:
        beside = figure.add_subplot(grid[2])
        hollow, labels[beside] = reported_latency.panel(beside)
        legend(figure.add_subplot(grid[3]), hollow, columns_of(hollow)[0])
    return figure, place(figure, labels)


def _draw(axes: Axes, shown: Sequence[Shown]) -> list[Label]:
    sizes: dict[tuple[object, ...], list[Shown]] = {}
    for one in shown:
        family = series(one.run["model"], one.run.get("family"))
        sizes.setdefault((family, *(one.run.get(key) for key in _ONE_LINE)), []).append(one)
    wanted = []
    for some in sizes.values():
        some.sort(key=lambda one: one.step["step_time"])
        colour, marker = look(series(some[0].run["model"], some[0].run.get("family"))[1])
        x, points = [one.step["step_time"] for one in some], [top1_point(one.run, 0.0) for one in some]
        y = [point.y for point in points if point is not None]
        axes.plot(x, y, color=colour, marker=marker, linewidth=1.2, markersize=6, zorder=3)
        for at, one, point in zip(x, some, points, strict=True):
            if point is not None and point.low is not None and point.high is not None:
                axes.vlines([at], [point.low], [point.high], color=colour, linewidth=1.2, zorder=2)
            if point is not None and (ends := interval(one.step)) is not None:
                axes.hlines([point.y], [ends[0]], [ends[1]], color=colour, linewidth=1.2, zorder=2)
        short = all(one.run["model"].startswith("tiny-") for one in shown)
        labels = [plain(one.name.removeprefix("tiny-") if short else one.name, 34) for one in some]
        wanted += [Label(at, up, text, colour) for at, up, text in zip(x, y, labels, strict=True)]
    return wanted


def _note(shown: Sequence[Shown], batch: int, behind: bool) -> str:
    evaluated = any(not one.run.get("epochs") for one in shown)
    others = sorted({one.run["batch"] for one in shown if one.run.get("epochs")} - {batch})
    parts = [
        f"Joined by model: the top-1 is of {'weights that were evaluated' if evaluated else 'training runs'}, the time"
        f" of separately timed steps at batch {batch}, without data, the quickest of each net.",
        f"Trained at batch {', '.join(map(str, others[:6]))}." if others else "",
        "Bars: 95 % intervals.",
        f"Hollow and faint: reported, {reported_latency.SOURCE}; trained by others, in other ways." if behind else "",
        "" if shown[0].run["dataset"] == "imagenet" else "That does not carry over to ImageNet.",
    ]
    return " ".join(part for part in parts if part)
