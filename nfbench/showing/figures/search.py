"""The search for a learning rate and λ: what each candidate scored on the training images that were held out."""

from __future__ import annotations

from nfbench.analysis.rows import Row
from nfbench.records import Training
from nfbench.showing.figures.canvas import Sheet, accuracy_axis, bare, entry, log_axis, panel
from nfbench.showing.figures.style import COLOURS, COLUMN, MARKERS, plain
from nfbench.units import grouped

_NOTE = "Scored on training images that no candidate saw. In the first round candidates learn from fewer images."


def tuning(rows: list[Row]) -> Sheet:
    """Held-out top-1 against the learning rate, a line per λ and round, with a ring around the candidate chosen."""
    row = rows[0]
    training: Training = row["training"]
    figure, axes = panel(3.0, COLUMN)
    last = max(c.round for c in training.search)
    scores = [100 * c.top1 for c in training.search if c.top1 is not None]
    handles = []
    for place, (agc, of_clip) in enumerate(grouped(training.search, lambda c: c.agc).items()):
        colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
        for round, tried in grouped(of_clip, lambda c: c.round).items():
            points = sorted((c.lr, 100 * c.top1) for c in tried if c.top1 is not None)
            first = {"linestyle": ":", "fillstyle": "none"} if round < last else {"linestyle": "-"}
            style = {"color": colour, "marker": marker, "markersize": 5, "linewidth": 1.2, **first}
            axes.plot([x for x, _ in points], [y for _, y in points], label=f"_λ {agc} {round}", **style)  # type: ignore[arg-type]
        diverged = [c.lr for c in of_clip if c.top1 is None]
        axes.plot(diverged, [min(scores, default=0.0)] * len(diverged), "x", color=colour, label="_diverged")
        if agc is not None:
            handles.append(entry(f"λ {agc:g}", color=colour, marker=marker, markersize=5))
    chosen = [
        100 * c.top1
        for c in training.search
        if (c.lr, c.agc, c.round) == (training.lr, row["clipping"], last) and c.top1
    ]
    axes.plot([training.lr] * len(chosen), chosen, "o", color="black", fillstyle="none", markersize=11, label="_chosen")
    log_axis(axes.xaxis, [c.lr for c in training.search], bare)
    accuracy_axis(axes.yaxis, scores or [0.0])
    axes.set_xlabel("learning rate")
    axes.set_ylabel("held-out top-1, %")
    styles = {"linestyle": "none", "color": "black", "marker": "o", "markersize": 5}
    handles += [
        entry("first round", **styles | {"fillstyle": "none"}),
        entry("last round", **styles),
        entry("chosen", **styles | {"fillstyle": "none", "markersize": 9}),
    ]
    title = f"held-out top-1 of {plain(row['model'], 30)} on {plain(row['dataset'], 24)} by learning rate"
    note = _NOTE + (" Crosses at the bottom: diverged." if any(c.top1 is None for c in training.search) else "")
    return Sheet(figure, title, note, handles if last else handles[:-3] + handles[-2:])
