"""Measured top-1 of training runs against what it costs, beside what others reported on ImageNet.

Accuracy never crosses data sets or px: each has a figure of its own. Lines lead through the sizes of a family.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nfbench.analysis.rows import Row
from nfbench.catalog import models
from nfbench.showing.accuracy_panel import (
    IMAGE_TIME,
    PANELS,
    all_named,
    common_epochs,
    draw,
    draw_beside,
    handles_of,
    shown,
)
from nfbench.showing.file_names import endings
from nfbench.showing.kinds import Drawing, Held, without
from nfbench.showing.labels import Label, place, unlabelled
from nfbench.showing.plots import Reported, families, reported, room_for
from nfbench.showing.style import PAGE, plain
from nfbench.showing.sweep_lines import MOST_FIGURES, accuracy_axis, columns_of, entitle, legend
from nfbench.showing.trained import lost

_PLACE = ("machine", "dataset", "weights", "px", "test_px")
_ANY_PX = 3
"""How many of `_PLACE` tell figures of ImageNet apart, where each net has a px of its own."""
_MOST = 60
"""Runs that a figure has room for."""
_CROWDED = " Of each net its most accurate run is labelled."
_NOTE = "Accuracies are means over seeds, bars 95 % intervals of Student's t over them; the front heeds no interval."


def accuracy_vs_flops(held: Held) -> Drawing:
    """Top-1 against MACs, parameters, training step time and energy, one figure a machine, data set, px and weights."""
    drawing, places = Drawing(), dict[tuple[object, ...], list[Row]]()
    for row in held.trained:
        if _drawable(row):
            keys = _PLACE[:_ANY_PX] if row["dataset"] == "imagenet" else _PLACE
            places.setdefault(tuple(row.get(key) for key in keys), []).append(row)
        else:
            drawing.leave_out([row], without(row, "final top-1 that could be drawn"))
    kept = list(places)[:MOST_FIGURES]
    for here in list(places)[MOST_FIGURES:]:
        drawing.leave_out(places[here], f"there is room for {MOST_FIGURES} figures: draw fewer at once, with --where")
    for here in kept:
        some = room_for(places[here], _MOST, drawing)
        figure, crowded = _figure(some)
        drawing.figures.append((str(here[0]), figure))
        drawing.drawn.extend(some)
        drawing.notes.extend(lost(row) for row in some if row["seeds"] < row["runs"])
        drawing.notes.extend(unlabelled(crowded))
        drawing.notes.extend(_lacking(some))
    for (_, figure), ending in zip(drawing.figures, endings([_of(here) for here in kept]), strict=True):
        figure.set_label(ending)
    return drawing


def _drawable(row: Row) -> bool:
    costs = _of_an_image(row)
    keys = ((IMAGE_TIME if panel.key == "train_step_time" else panel).key for panel in PANELS)
    return 0 <= row.get("top1", -1) <= 1 and any(shown(costs.get(key)) for key in keys)


def _lacking(rows: Sequence[Row]) -> list[str]:
    """How many of the rows a panel lacks that others are in."""
    number = {panel.name: sum(shown(row.get(panel.key)) for row in rows) for panel in PANELS}
    first = rows[0]
    where = f"{plain(first['dataset'], 40)} on {plain(first['machine'])}"
    return [
        f"{len(rows) - some} of {len(rows)} runs on {where} have no {name}: they are in the other panels only"
        for name, some in number.items()
        if 0 < some < len(rows)
    ]


def _of(place: tuple[object, ...]) -> tuple[object, ...]:
    """What a figure is of, in the words of its file's name."""
    words = ("{}", "{}", "weights-{}", "{}px", "tested-at-{}px")
    return tuple(word.format(value) for word, value in zip(words, place, strict=False))


def _figure(rows: Sequence[Row]) -> tuple[Figure, list[Label]]:
    """The figure, and the labels that some panel had no room for."""
    first, dataset = rows[0], str(rows[0]["dataset"])
    imagenet = dataset == "imagenet"
    title = _title(rows)
    rows, at, several = _at_test_px(rows) if imagenet else (rows, f"{first.get('px')} px", False)
    beside = _beside(rows, several) if imagenet and all(row.get("px") == row.get("test_px") for row in rows) else []
    panels = [panel for panel in PANELS if any(shown(row.get(panel.key)) for row in rows)]
    if len({row["batch"] for row in rows}) > 1:
        rows = [_of_an_image(row) for row in rows]
        panels = [IMAGE_TIME if panel.key == "train_step_time" else panel for panel in panels]
    number = len(panels) + (not beside)
    high = math.ceil(number / 2)
    handles = handles_of(rows, beside)
    columns, deep = columns_of(handles, PAGE)
    heights = [*(2.7,) * high, 0.1 + 0.16 * deep, 0.01 if beside else 0.72]
    figure = Figure(figsize=(PAGE, 0.3 + sum(heights)), layout="constrained")
    others = "Grey and hollow: reported, trained by others, in other ways. " if beside else ""
    carry = others if imagenet else f"Results on {plain(dataset, 40)} do not carry over to ImageNet. "
    entitle(figure, title, carry + _NOTE + _front_of(rows) + ("" if all_named(rows) else _CROWDED))
    grid = figure.add_gridspec(high + 2, 2, height_ratios=heights)
    cells: list[Axes] = []
    for i in range(len(panels)):
        cells.append(figure.add_subplot(grid[i // 2, i % 2], sharey=cells[0] if cells else None))
    labels: dict[Axes, Sequence[Label]] = {}
    for i, (axes, panel) in enumerate(zip(cells, panels, strict=True)):
        here = [row for row in rows if shown(row.get(panel.key))]
        labels[axes] = draw(axes, panel, here, rows)
        if panel.key == "macs" and beside:
            labels[axes] = [*labels[axes], *draw_beside(axes, beside)]
        axes.set_xlabel(panel.label.format(macs_px=at, batch=_batch(rows)), fontsize=8)
        if i % 2 == 0:
            axes.set_ylabel("ImageNet top-1, %" if beside and panels[i].key == "macs" else "measured top-1, %")
        else:
            axes.tick_params(labelleft=False)
    tops = [v for row in rows for key in ("top1", "top1_low", "top1_high") if (v := row.get(key)) is not None]
    tops = [min(max(100 * top, 0.0), 100.0) for top in tops] + [point.top1 for point in beside]
    # shared by all panels
    accuracy_axis(cells[0], tops, room=0.14)
    if not beside:
        axes = figure.add_subplot(grid[(number - 1) // 2, (number - 1) % 2])
        theirs, labels[axes] = reported(axes, (), grey=True)
        axes.set_title("ImageNet, reported: not measured here", loc="left", fontsize=8)
        legend(
            figure.add_subplot(grid[high + 1, :]),
            theirs,
            columns_of(theirs, PAGE)[0],
            "grey and hollow: reported, on ImageNet",
        )
        axes.set_xlabel("counted GMACs of one image at the test px", fontsize=8)
        axes.set_ylabel("reported ImageNet top-1, %")
    legend(figure.add_subplot(grid[high, :]), handles, columns)
    return figure, place(figure, labels)


def _at_test_px(rows: Sequence[Row]) -> tuple[Sequence[Row], str, bool]:
    """The rows with the MACs at which their accuracy was read, the px of those in words, and whether there are several.

    Where one of the nets cannot be counted at its test px all stand at the px that they were counted at.
    """
    found = []
    for row in rows:
        if row.get("px") != row.get("test_px"):
            counted = models.counted(row["model"], row["test_px"]) if row.get("test_px") else None
            row = {**row, "macs": counted.macs, "px": row["test_px"]} if counted else row
        found.append(row)
    whole = all(row.get("px") == row.get("test_px") for row in found)
    shown = found if whole else rows
    several = len({row.get("px") for row in shown}) > 1
    one = f"{shown[0].get('px')} px"
    return shown, (f"each net's {'test' if whole else 'training'} px" if several else one), several


def _beside(rows: Sequence[Row], several: bool) -> list[Reported]:
    """What was reported at the one px of the rows, or, of nets that are each at their own, of the same families."""
    px, of = {row.get("px") for row in rows}, {row.get("family") for row in rows}
    return [p for family, points in families() for p in points if (family in of if several else p.px in px)]


def _title(rows: Sequence[Row]) -> str:
    row = rows[0]
    if len({(one.get("px"), one.get("test_px")) for one in rows}) > 1:
        weights = f", from {plain(str(row['weights']), 30)} weights" if row.get("weights", "none") != "none" else ""
        where = f"{plain(row['dataset'], 40)}, each net at its px{weights}"
        return f"{plain(row['machine'], 44)}: measured top-1 on {where}"
    tested = f", tested at {row['test_px']} px" if row.get("test_px") not in (None, row.get("px")) else ""
    weights = f", from {plain(str(row['weights']), 30)} weights" if row.get("weights", "none") != "none" else ""
    where = f"{plain(row['dataset'], 40)} at {row.get('px', '?')} px{tested}{weights}"
    return f"{plain(row['machine'], 44)}: measured top-1 on {where}"


def _of_an_image(row: Row) -> Row:
    time = row.get("train_step_time")
    return {**row, IMAGE_TIME.key: time / row["batch"]} if shown(time) and row["batch"] > 0 else row


def _front_of(rows: Sequence[Row]) -> str:
    """Which runs the front is of, where they differ in epochs: longer ones are better for what is no cost here."""
    epochs = common_epochs(rows)
    if all(row.get("epochs") == epochs for row in rows):
        return ""
    number = sum(row.get("epochs") == epochs for row in rows)
    others = sorted({row["epochs"] for row in rows if "epochs" in row} - {epochs})
    several = f"{epochs} epoch{'s'[: epochs != 1]}"
    return f" The front is of the {number} runs of {several}; those of {', '.join(map(str, others))} are not in it."


def _batch(rows: Iterable[Row]) -> str:
    batches = {row["batch"] for row in rows}
    return f"batch {batches.pop()}" if len(batches) == 1 else "each at its batch"
