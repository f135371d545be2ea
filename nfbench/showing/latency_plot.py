"""Measured top-1 against the measured time of a training step (the paper's Figure 1): families as lines.

Accuracy comes from training runs and the time from timed steps of the same machine: they are joined by model. What the
paper reports stands behind them where it compares, on ImageNet at its batch, and else in a panel of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nfbench import units
from nfbench.analysis import lines
from nfbench.analysis.rows import Row
from nfbench.showing import reported_latency
from nfbench.showing.accuracy_panel import family_handles
from nfbench.showing.file_names import endings
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
from nfbench.showing.timed_steps import Steps, TimedSteps, Way
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
    """A training run with the name of its net and the quickest of its steps, by how it was timed and its batch."""

    name: str
    run: Row
    steps: Steps


class Shown(NamedTuple):
    """A training run with the step that it is set against."""

    name: str
    run: Row
    step: Row


def accuracy_vs_latency(held: Held) -> Drawing:
    """Top-1 of training runs against the step time of the same nets, one figure a machine, data set, px and weights.

    The steps are of one batch, precision, compile mode and optimizer: those that most nets were timed at. Of several
    runs of a net that differ in batch or λ the one at this batch is drawn, else the most accurate. It takes two nets.
    """
    drawing = Drawing()
    gpus = {r.machine.name for r in held.results if r.machine.device == "cuda"}
    found: dict[_Place, Figure] = {}
    for here, joined in _places(held, drawing).items():
        way = _way(joined)
        batch = _batch(joined, way)
        shown = _chosen([Shown(j.name, j.run, s[batch]) for j in joined if batch in (s := j.steps.get(way, {}))], batch)
        if len(shown) < 2:
            alike = all(way in j.steps for j in joined)
            why = f"one net only{'' if alike else ' at one precision, compile mode and optimizer'}; it takes two"
            drawing.leave_out((j.run for j in joined), why)
            continue
        kept = {id(one.run) for one in shown[:_MOST]} if len(found) < MOST_FIGURES else set()
        timed = {one.name for one in shown}
        for name, run, steps in joined:
            if id(run) in kept:
                drawing.drawn.append(run)
                drawing.notes.extend([lost(run)] if run["seeds"] < run["runs"] else [])
            elif way not in steps and name not in timed:
                drawing.leave_out([run], _otherwise(steps, way))
            elif batch not in steps.get(way, {}) and name not in timed:
                drawing.leave_out([run], f"no step time at batch {batch}, which most were timed at")
            elif all(one.run is not run for one in shown):
                drawing.leave_out([run], "another run of that net is drawn")
            else:
                why = f"there is room for {MOST_FIGURES} figures of {_MOST} nets: draw fewer at once, with --where"
                drawing.leave_out([run], why)
        if kept:
            gpu = any(str(here[0]).startswith(name) for name in gpus)
            found[here], crowded = _figure(shown[:_MOST], batch, way, gpu)
            drawing.notes.extend(unlabelled(crowded))
    for ((machine, *_), figure), ending in zip(found.items(), endings([_of(here) for here in found]), strict=True):
        figure.set_label(ending)
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
    if held.partners is None and (number := sum(steps.shared.values())):
        drawing.notes.append(f"{number} row{'s'[: number != 1]} of steps: several devices share the step")
    return found


def _way(joined: Sequence[Joined]) -> Way:
    """How the most nets were timed; of several ways the one of the most batches, then the paper's precision."""
    timed = Counter(way for way, _ in {(way, j.name) for j in joined for way in j.steps})
    each = {(way, batch, j.name) for j in joined for way, steps in j.steps.items() for batch in steps}
    batches = Counter(way for way, _, _ in each)
    return max(timed, key=lambda way: (timed[way], batches[way], way.precision == "bf16", way.compile == "none", way))


def _otherwise(steps: Steps, way: Way) -> str:
    """Why a net that was not timed as ``way`` has no place beside those that were."""
    nearest = min(steps, key=lambda its: (sum(a != b for a, b in zip(its, way, strict=True)), its))
    return f"timed with {nearest.words(way)}, not with {way.words(nearest)} as most"


def _batch(joined: Sequence[Joined], way: Way) -> int:
    """The batch at which the most nets were timed; of several the runs' own, then the paper's, then the smallest."""
    each = {(j.name, id(j.steps)): j for j in joined}.values()
    timed = Counter(batch for batch, _ in {(batch, j.name) for j in each for batch in j.steps.get(way, ())})
    own = Counter(j.run["batch"] for j in joined)
    return max(timed, key=lambda batch: (timed[batch], own[batch], batch == reported_latency.BATCH, -batch))


def _chosen(shown: Sequence[Shown], batch: int) -> list[Shown]:
    """One run a net."""
    nets: dict[str, list[Shown]] = {}
    for one in shown:
        nets.setdefault(one.name, []).append(one)
    best = [max(some, key=lambda one: (one.run["batch"] == batch, one.run["top1"])) for some in nets.values()]
    return sorted(best, key=lambda one: (in_order(one.run), one.step["step_time"]))


def _of(place: _Place) -> tuple[object, ...]:
    """What a figure is of, in the words of its file's name."""
    words = ("{}", "{}", "weights-{}", "{}px", "tested-at-{}px")
    return tuple(word.format(value) for word, value in zip(words, place, strict=False))


def _figure(shown: Sequence[Shown], batch: int, way: Way, gpu: bool) -> tuple[Figure, list[Label]]:
    """The figure, and the labels that it had no room for; what is reported of TPUs stands only beside a ``gpu``."""
    first = shown[0].run
    behind = gpu and first["dataset"] == "imagenet" and batch == reported_latency.BATCH
    handles = family_handles([one.run for one in shown])
    others = len(reported_latency.families())
    deep = columns_of([*handles, *[handles[0]] * others * behind])[1]
    heights = [3.2, 0.1 + 0.16 * deep, *([2.2, 0.4] if gpu and not behind else [])]
    figure = Figure(figsize=(COLUMN, sum(heights) + 0.3), layout="constrained")
    grid = figure.add_gridspec(len(heights), 1, height_ratios=heights)
    title = f"{plain(first['machine'], 44)}: measured top-1 on {plain(first['dataset'], 30)} against training step time"
    entitle(figure, title, _note(shown, batch, way, behind))
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
    time = f"time of a training step, batch {batch}"
    axes.set_xlabel(f"{time}, measured and reported" if behind else f"measured {time}")
    axes.set_ylabel("ImageNet top-1, %" if behind else "measured top-1, %")
    legend(figure.add_subplot(grid[1]), handles, columns_of(handles)[0])
    if gpu and not behind:
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


def _note(shown: Sequence[Shown], batch: int, way: Way, behind: bool) -> str:
    evaluated = any(not one.run.get("epochs") for one in shown)
    layouts = Counter(str(one.step.get("layout", "?")) for one in shown)
    others = sorted({one.run["batch"] for one in shown if one.run.get("epochs")} - {batch})
    parts = [
        f"Joined by model: the top-1 is of {'weights that were evaluated' if evaluated else 'training runs'}, the time"
        f" of separately timed steps at batch {batch}, {way.words()}, without data, the quickest of each net.",
        f"Layouts: {', '.join(f'{name} {number} ×' for name, number in layouts.items())}." if len(layouts) > 1 else "",
        f"Trained at batch {', '.join(map(str, others[:6]))}." if others else "",
        "Bars: 95 % intervals.",
        f"Grey and hollow: reported, {reported_latency.SOURCE}; trained by others, in other ways." if behind else "",
        "" if shown[0].run["dataset"] == "imagenet" else "That does not carry over to ImageNet.",
    ]
    return " ".join(part for part in parts if part)
