"""Measured top-1 against the measured time of a training step (the paper's Figure 1): families as lines.

Accuracy comes from training runs and the time from timed steps of the same machine: they are joined by model.
"""

from __future__ import annotations

import textwrap
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
from nfbench.showing.batch_plots import top1_point
from nfbench.showing.kinds import Drawing, Held
from nfbench.showing.labels import Label, place
from nfbench.showing.style import drawable, in_order, interval, look, plain, series
from nfbench.showing.sweep_lines import WIDTH, Look, columns_of, handle, legend, log_axis

_PLACE = ("machine", "dataset", "weights", "px", "test_px")
_ANY_PX = 2
"""How many of `_PLACE` tell figures of ImageNet apart, where each net has a px of its own."""
_ONE_LINE = ("batch", "agc", "epochs", "recipe", "optimizer", "schedule", "augment", "norm")
"""Runs that differ in one of these are no sizes of one family."""
_PAPER_BATCH = 32
_MOST = 40


class Joined(NamedTuple):
    """A training run with the step that it is set against."""

    name: str
    run: Row
    step: Row


def accuracy_vs_latency(held: Held) -> Drawing:
    """Top-1 of training runs against the step time of the same nets, one figure a machine, data set, px and weights.

    The steps are of one batch: that which most nets were timed at. Of several runs of a net that differ in batch or λ
    the one at this batch is drawn, else the most accurate.
    """
    drawing = Drawing([], [], [])
    if not held.trained:
        drawing.lacking.append("accuracy-vs-latency: the results hold no training run; nfbench accuracy makes one")
    places: dict[tuple[object, ...], list[Joined]] = {}
    found: dict[tuple[object, ...], Figure] = {}
    names = lines.names(held.trained, swept=("batch", "agc"))
    for run, name in zip(held.trained, names, strict=True):
        steps = [step for step in held.rows if _same(run, step)]
        where = f"accuracy-vs-latency: {_said(run, name)}"
        if top1_point(run, 0.0) is None:
            drawing.lacking.append(f"{where}: {run['status']}, no top-1")
        elif not steps:
            why = "no step time of it on that machine; nfbench step-time measures one"
            drawing.lacking.append(f"{where}: {why}")
        else:
            keys = _PLACE[: _ANY_PX + 1] if run["dataset"] == "imagenet" else _PLACE
            here = tuple(run.get(key) for key in keys)
            places.setdefault(here, []).extend(Joined(name, run, step) for step in steps)
    for here, joined in places.items():
        batch = _batch(joined)
        shown = _chosen([j for j in joined if j.step["batch"] == batch], batch)[:_MOST]
        kept = {id(j.run) for j in shown}
        for run, name in {id(j.run): (j.run, j.name) for j in joined if id(j.run) not in kept}.values():
            timed = any(j.name == name for j in shown)
            why = "another run of that net is drawn" if timed else f"no step time at batch {batch}"
            drawing.left_out.append(f"accuracy-vs-latency: {_said(run, name)}: {why}")
        found[here] = _figure(shown, batch)
    used: set[tuple[object, str]] = set()
    for here, figure in found.items():
        same = [other for other in found if other[0] == here[0]]
        differ = [str(v) for i, v in enumerate(here) if len({other[i : i + 1] for other in same}) > 1]
        name = slug("-".join(differ)) if differ else ""
        ending = next(e for i in count(1) if (here[0], e := f"{name}-{i}" if i > 1 else name) not in used)
        used.add((here[0], ending))
        figure.set_label(ending)
        drawing.figures.append((str(here[0]), figure))
    return drawing


def _same(run: Row, step: Row) -> bool:
    """Whether the step is of the net, and drawable. Weights that were only evaluated fit a step at any px and λ."""
    if any(run.get(key) != step.get(key) for key in ("machine", "model")) or not drawable(step.get("step_time")):
        return False
    keys = ("norm", "px", "agc", "sam") if run.get("epochs") else ("norm",)
    mine, its = lines.settings(run), lines.settings(step)
    return lines.agree({key: mine[key] for key in keys if key in mine}, its)


def _said(run: Row, name: str) -> str:
    clip = f", λ {run['agc']}" if "agc" in run else ""
    return f"{plain(name)} on {plain(run['machine'])}, {plain(run['dataset'], 40)}, batch {run['batch']}{clip}"


def _batch(joined: Sequence[Joined]) -> int:
    """The batch at which the most nets were timed; of several the runs' own, then the paper's, then the smallest."""
    timed = Counter(int(batch) for batch, _ in {(j.step["batch"], j.name) for j in joined})
    own = Counter(j.run["batch"] for j in {id(j.run): j for j in joined}.values())
    return max(timed, key=lambda batch: (timed[batch], own[batch], batch == _PAPER_BATCH, -batch))


def _chosen(joined: Sequence[Joined], batch: int) -> list[Joined]:
    """One run a net, each with the quickest of its steps."""
    nets: dict[str, list[Joined]] = {}
    for one in joined:
        nets.setdefault(one.name, []).append(one)
    best = [
        max(some, key=lambda j: (j.run["batch"] == batch, j.run["top1"], -j.step["step_time"]))
        for some in nets.values()
    ]
    return sorted(best, key=lambda j: (in_order(j.run), j.step["step_time"]))


def _figure(joined: Sequence[Joined], batch: int) -> Figure:
    first = joined[0].run
    written = textwrap.wrap(_note(joined, batch), 118)
    styles = dict.fromkeys(series(j.run["model"], j.run.get("family")) for j in joined)
    handles = [handle(text, Look(*look(family), "-")) for text, family in styles]
    columns, deep = columns_of(handles)
    heights = [4.0, 0.2 + 0.17 * deep]
    figure = Figure(figsize=(WIDTH, sum(heights) + 0.5 + 0.13 * len(written)), layout="constrained")
    grid = figure.add_gridspec(2, 1, height_ratios=heights)
    axes = figure.add_subplot(grid[0])
    wanted = _draw(axes, joined)
    log_axis(axes.xaxis, [j.step["step_time"] for j in joined], lambda v: units.si(v, "s", 1), 10, least=1.2)
    axes.margins(y=0.12)
    axes.set_xlabel(f"measured time of a training step, batch {batch}")
    axes.set_ylabel(f"measured top-1 on {plain(first['dataset'], 30)}, %")
    legend(figure.add_subplot(grid[1]), handles, columns)
    title = f"{plain(first['machine'])}: top-1 against training step time"
    figure.suptitle(title, x=0.01, ha="left", fontsize=9)
    figure.supxlabel("\n".join(written), x=0.01, ha="left", fontsize=7)
    place(figure, {axes: wanted})
    return figure


def _draw(axes: Axes, joined: Sequence[Joined]) -> list[Label]:
    sizes: dict[tuple[object, ...], list[Joined]] = {}
    for one in joined:
        family = series(one.run["model"], one.run.get("family"))
        sizes.setdefault((family, *(one.run.get(key) for key in _ONE_LINE)), []).append(one)
    wanted = []
    for some in sizes.values():
        some.sort(key=lambda j: j.step["step_time"])
        colour, marker = look(series(some[0].run["model"], some[0].run.get("family"))[1])
        x, points = [j.step["step_time"] for j in some], [top1_point(j.run, 0.0) for j in some]
        y = [point.y for point in points if point is not None]
        axes.plot(x, y, color=colour, marker=marker, linewidth=1, markersize=6, zorder=3)
        for at, one, point in zip(x, some, points, strict=True):
            if point is not None and point.low is not None and point.high is not None:
                axes.vlines([at], [point.low], [point.high], color=colour, linewidth=1.2, zorder=2)
            if point is not None and (ends := interval(one.step)) is not None:
                axes.hlines([point.y], [ends[0]], [ends[1]], color=colour, linewidth=1.2, zorder=2)
        short = all(j.run["model"].startswith("tiny-") for j in joined)
        labels = [plain(j.name.removeprefix("tiny-") if short else j.name, 34) for j in some]
        wanted += [Label(at, up, text, colour) for at, up, text in zip(x, y, labels, strict=True)]
    return wanted


def _note(joined: Sequence[Joined], batch: int) -> str:
    evaluated = any(not j.run.get("epochs") for j in joined)
    others = sorted({j.run["batch"] for j in joined if j.run.get("epochs")} - {batch})
    parts = [
        f"Joined by model: the top-1 is of {'weights that were evaluated' if evaluated else 'training runs'}, the time"
        f" of separately timed steps at batch {batch}, without data, the quickest of each net.",
        f"Trained at batch {', '.join(map(str, others[:6]))}." if others else "",
        "Bars: 95 % intervals.",
        "" if joined[0].run["dataset"] == "imagenet" else "That does not carry over to ImageNet.",
    ]
    return " ".join(part for part in parts if part)
