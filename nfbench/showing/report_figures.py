"""The figures of a report, each with words for whom cannot see it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from nfbench.showing.figures import driver
from nfbench.showing.figures.canvas import looks
from nfbench.showing.figures.driver import Drawing
from nfbench.showing.figures.prepared import Held
from nfbench.showing.figures.table import KINDS
from nfbench.showing.report import Picture, clean
from nfbench.showing.study import Shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TOP = (
    "speedup",
    "accuracy-vs-latency",
    "accuracy-vs-flops",
    "batch-throughput",
    "batch-accuracy",
    "agc-heatmap",
    "step-time",
)
"""The kinds that may stand at the top, the first that the results hold enough for."""
_MOST, _MOST_OF_RUNS = 4, 2
"""Figures of one kind in a study, and of one that has a figure a run; the others are counted."""


class Drawn(NamedTuple):
    """The figures, and what is in none of them."""

    pictures: list[Picture]
    left_out: list[str]


def top(seen: Shown, everything: bool) -> Picture | None:
    """The figure that says most about a device; None where the results hold enough for none of `TOP`.

    One that shows a single row, unless that is a ratio, is taken only where there is no other.
    """
    held, spare = _held(seen, everything), None
    for kind in (k for k in TOP if k in KINDS):
        with looks():
            made = driver.drawings(held, [kind])
        if found := _pictures(made, held, None, seen):
            if len(made[kind].drawn) > 1 or KINDS[kind].reads == "ratios":
                return found[0]
            spare = spare or found[0]
    return spare


def drawn(seen: Shown, kinds: Sequence[str], folder: Path | None, everything: bool) -> Drawn:
    """The figures of ``kinds``, or of all that the results hold enough for, which go into ``folder``."""
    held = _held(seen, everything)
    wanted = [k for k in kinds if k in KINDS]
    with looks():
        made = driver.drawings(held, wanted)
    lines = driver.left_out(driver.heeded(made, kinds))
    found = _pictures(made, held, folder, seen)
    kept: list[Picture] = []
    for kind in made:
        own = [picture for picture in found if picture.kind == kind]
        most = _MOST_OF_RUNS if KINDS[kind].reads in ("timed", "seeds") else _MOST
        kept += own[:most]
        if (every := len(own)) > most:
            lines.append(f"{kind}: {most} of its {every} figures are in this report; nfbench plot draws all {every}")
    return Drawn(kept, [clean(line) for line in lines])


def _held(seen: Shown, everything: bool) -> Held:
    return Held(seen.steps, seen.results, seen.trained, seen.ratios, everything, noisy=seen.noisy)


def _pictures(made: dict[str, Drawing], held: Held, folder: Path | None, seen: Shown) -> list[Picture]:
    found = []
    for kind, machine, figure, name in driver.named(held, made):
        alone = made[kind].drawn if len(made[kind].figures) == 1 else []
        of = machine or (seen.results[-1].machine.name if seen.results else "")
        caption = KINDS[kind].shows
        caption = f"{caption[:1].upper()}{caption[1:]}"
        words = [caption, f"on {clean(of, 80)}" if of else "", _nets(alone)]
        alt = f"{', '.join(filter(None, words))}. {_axes(figure)}"
        found.append(Picture(kind, name, clean(alt, 1000), clean(f"{caption}.{_panels(figure)}"), figure, folder))
    return found


def _nets(rows: Iterable[object]) -> str:
    nets = list(dict.fromkeys(clean(str(row["model"]), 40) for row in rows if isinstance(row, dict) and "model" in row))
    more = f" and {len(nets) - 6} more" if len(nets) > 6 else ""
    return f"of {', '.join(nets[:6])}{more}" if nets else ""


def _panels(figure: Figure) -> str:
    """What tells the panels of a figure apart, from the labels of those that it has; empty where it has one."""
    labels = [(axes.get_xlabel(), axes.get_ylabel()) for axes in figure.axes if axes.get_visible()]
    for way in (0, 1):
        told = {
            pair[way]: f"reported: {pair[way]}" if "reported" in pair[1] and "reported" not in pair[way] else pair[way]
            for pair in labels
            if pair[way]
        }
        if len(told) > 1:
            return f" Panels: {'; '.join(told.values())}."
    return ""


def _axes(figure: Figure) -> str:
    """What stands above it, what is drawn along which axis, and the entries of the legends."""
    titles = [figure.get_suptitle(), *(axes.get_title(loc="left") for axes in figure.axes)]
    title = next((" ".join(title.split()) for title in titles if title), "")
    parts = [f"Headed: {title}."] if title else []
    for axes in (axes for axes in figure.axes if axes.get_visible()):
        across, up = axes.get_xlabel(), axes.get_ylabel()
        said = "; ".join(f"{way}: {label}" for way, label in (("across", across), ("up", up)) if label)
        parts += [f"{said[:1].upper()}{said[1:]}."] if said else []
    texts = [t.get_text() for axes in figure.axes if (found := axes.get_legend()) for t in found.get_texts()]
    legend = f"Legend: {'; '.join(dict.fromkeys(texts))}." if texts else ""
    return " ".join([*dict.fromkeys(parts), legend])
