"""What the figures share of matplotlib: titles, legends, axes, labels beside points, and how they reach the disk."""

from __future__ import annotations

import math
import textwrap
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from adjustText import adjust_text
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator, Locator, LogLocator, MaxNLocator, NullLocator
from matplotlib.transforms import Bbox

from nfbench import units
from nfbench.analysis.rows import Row
from nfbench.analysis.store import replacing
from nfbench.errors import BadResults
from nfbench.showing.figures.style import FORMATS, REPORTED, STYLE, look, plain, series
from nfbench.units import grouped, no_collection

LETTERS = 18.5
"""Letters of 7 points that an inch has room for."""
DASHES: tuple[Any, ...] = ("-", "--", ":", "-.", (0, (6, 1, 1, 1, 1, 1)), (0, (1, 3)))
ENTRY = 44
"""Letters of an entry of a legend."""
_METADATA: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
_NAMED = 6
"""Labels that a note names."""
_ROUNDS = 200
"""In how many rounds labels are pushed apart."""
_STRIDE = 12.0
"""Pixels between the places of a line that labels keep off."""
_GRID = 4.0
"""Pixels within which places are one."""
_HALF = 4.0
"""Points from the middle of a marker to its edge."""
_APART = 6
"""Pixels that a tick's name keeps from its neighbour."""
Fill = Literal["full", "left", "right", "bottom", "top"]


class Look(NamedTuple):
    """What a line is drawn as: by family, and the dash, and how its markers are filled, tell its nets apart."""

    colour: str
    marker: str
    dash: Any
    fill: Fill = "full"


class Label(NamedTuple):
    """A text at a place in the units of the axes."""

    x: float
    y: float
    text: str
    colour: str


class Sheet(NamedTuple):
    """A figure of panels, and what is written around them: a title, a legend, a note at the foot, and the labels of the
    points of each panel. ``lacks`` are sentences on what it lacks of its rows, which no figure says."""

    figure: Figure
    title: str
    note: str = ""
    handles: Sequence[Artist] = ()
    labels: Mapping[Axes, Sequence[Label]] = {}
    lacks: Sequence[str] = ()


@contextmanager
def looks() -> Iterator[None]:
    """Within it figures have the looks that all of this package share, and nothing looks for garbage among them."""
    with rc_context(STYLE), warnings.catch_warnings(), no_collection():
        # a name in a script that the font lacks is drawn as boxes
        warnings.filterwarnings("ignore", r"Glyph \d+", UserWarning)
        yield


def panel(high: float, wide: float) -> tuple[Figure, Axes]:
    """A figure of one panel, in inches."""
    figure = Figure(figsize=(wide, high), layout="constrained")
    return figure, figure.add_subplot()


def finish(sheet: Sheet, machine: str) -> list[str]:
    """Write the title above, the legend below, the note at the foot and the labels, and say what the figure lacks.

    Each text has as many lines as the width asks for, and the figure becomes so much taller.
    """
    figure, title, note, handles, labels, lacks = sheet
    wide, high = figure.get_size_inches()
    above = textwrap.wrap(f"{plain(machine, 44)}: {title}", int(wide * 14.2))
    below = textwrap.wrap(note, int(wide * LETTERS))
    longest = max((len(str(h.get_label())) for h in handles), default=1)
    columns = max(1, min(len(handles), int((wide - 0.1) / (0.52 + 0.058 * longest))))
    foot = 0.13 * len(below)
    high += 0.3 + 0.16 * len(above) + foot + (0.1 + 0.17 * math.ceil(len(handles) / columns) if handles else 0.0)
    figure.set_size_inches(wide, high)
    figure.suptitle("\n".join(above), x=0.01, ha="left", fontsize=9)
    if below:
        figure.supxlabel("\n".join(below), x=0.01, y=0.04 / high, ha="left", va="bottom", fontsize=7)
        # what is laid out ends above it
        figure._supxlabel.set_in_layout(False)  # type: ignore[attr-defined]
        figure.get_layout_engine().set(rect=(0, foot / high, 1, 1 - foot / high))  # type: ignore[union-attr, call-arg]
    if handles:
        style = {"ncols": columns, "fontsize": 7, "frameon": False, "handlelength": 3.0, "columnspacing": 1.2}
        figure.legend(handles=handles, loc="outside lower center", borderaxespad=(0.04 + foot) * 72 / 7, **style)
    return [*lacks, *(_place(figure, labels) if labels else ())]


def entry(text: str, **style: Any) -> Line2D:
    """A legend's entry."""
    return Line2D([], [], label=plain(text, 80), **style)


def handle(name: str, look: Look, **more: Any) -> Line2D:
    """A legend's entry for a line of that look."""
    style = {"color": look.colour, "marker": look.marker, "linestyle": look.dash, "linewidth": 1.2, "markersize": 5}
    style |= {"fillstyle": look.fill, "markerfacecoloralt": "white"}
    return entry(plain(name, ENTRY), **(style | more))


def family_handles(rows: Sequence[Row]) -> list[Line2D]:
    """A legend's entry for each family of the rows; nets of none share a look and an entry."""
    named = grouped(dict.fromkeys(series(row["model"], row.get("family")) for row in rows), lambda pair: look(pair[1]))
    return [
        handle(f"measured: {pairs[0][0] if len(pairs) == 1 else 'other nets'}", Look(*each, "-"), markersize=6)
        for each, pairs in named.items()
    ]


def hollow(marker: str, **more: Any) -> dict[str, Any]:
    """How what was reported is drawn beside what was measured."""
    return {"color": REPORTED, "marker": marker, "markerfacecolor": "white", "markersize": 5, "linewidth": 0.8} | more


def reported_line(axes: Axes, points: Sequence[tuple[float, float]], name: str, marker: str, **style: Any) -> Line2D:
    """Draw what was reported as a line through its points, and make its entry of a legend."""
    style = hollow(marker, **style)
    axes.plot([x for x, _ in points], [y for _, y in points], **style)
    return entry(f"reported: {name}", **style)


def reported_panel(axes: Axes, source: str, across: str, up: str) -> None:
    """Label a panel that holds nothing but what was reported."""
    axes.set_title(f"ImageNet, reported: not measured here{f'. {source}' if source else ''}", loc="left", fontsize=8)
    axes.set_xlabel(across)
    axes.set_ylabel(up)


def dark(colour: str) -> tuple[float, ...]:
    """A colour as letters have it: what is bright enough for a marker is too pale to read."""
    return tuple(0.6 * part for part in to_rgb(colour))


def bars(axes: Axes, ends: Sequence[tuple[float, float, float]], **style: Any) -> None:
    """Draw a bar upright for each place with its ends."""
    x, low, high = ([end[i] for end in ends] for i in range(3))
    axes.vlines(x, low, high, **style)


def beside(axes: Axes, text: str, place: tuple[float, float], right: float = 3, **style: Any) -> Text:
    """Write ``text`` at a place, which the limits of the axes leave room for; ``right`` are points from there."""
    given: dict[str, Any] = {"textcoords": "offset points", "va": "center", "fontsize": 7}
    written = axes.annotate(text, place, xytext=(right, 0), **(given | style))
    written.set_in_layout(False)
    return written


def _limits(axis: Axis, low: float, high: float, scale: str = "linear", **more: Any) -> None:
    name: str = axis.axis_name  # type: ignore[attr-defined]
    getattr(axis.axes, f"set_{name}scale")(scale, **more)
    getattr(axis.axes, f"set_{name}lim")(low, high)


def log_axis(
    axis: Axis, values: Sequence[float], text: Callable[[float], str], base: int = 10, least: float = 1.0
) -> None:
    """Make ``axis`` logarithmic, at least ``least`` powers of ``base`` wide; `settle` chooses its ticks."""
    low, high = math.log(min(values), base), math.log(max(values), base)
    room = max(0.08 * (high - low), (least - high + low) / 2)
    _limits(axis, float(base) ** (low - room), float(base) ** (high + room), "log", base=base)
    axis.set_major_locator(LogLocator(base, (1, 2, 5) if base == 10 else (1,)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, _: text(value))


def value_axis(axis: Axis, values: Sequence[float], text: Callable[[float], str]) -> None:
    """From 0 on, or logarithmic where the values lie far apart."""
    if max(values) > 8 * min(values):
        log_axis(axis, values, text)
        return
    _limits(axis, 0, 1.1 * max(values))
    axis.set_major_formatter(lambda value, _: text(value) if value else "0")


def near_axis(axis: Axis, values: Sequence[float], ticks: int = 5) -> None:
    """Limits near the values, but so far that noise of a per cent doesn't look like a cliff."""
    low, high = min(values), max(values)
    room = max(0.08 * (high - low), 0.05 * high)
    _limits(axis, max(0.0, low - room), high + room)
    axis.set_major_locator(MaxNLocator(ticks, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(lambda value, _: bare(value))


def accuracy_axis(axis: Axis, values: Sequence[float], room: float = 0.1) -> None:
    """Limits of per cent around ``values``, with ``room`` of their range, hardly beyond 0 and 100."""
    low, high = min(values, default=0.0), max(values, default=100.0)
    more = max(room * (high - low), 0.5)
    beyond = 0.03 * (high - low + more)
    _limits(axis, max(-beyond, low - more), min(100 + beyond, high + more))


def number(value: float) -> str:
    """A bare number on an axis."""
    return f"{value:,.0f}" if 1 <= value < 1e5 and value == int(value) else units.si(value, "", 2).rstrip()


def bare(value: float) -> str:
    """A number on an axis with all its digits, as long as it has few."""
    return f"{value:,.6g}" if abs(value) < 1e5 else number(value)


def _place(figure: Figure, labels: Mapping[Axes, Sequence[Label]]) -> list[str]:
    """Write the labels of each axes near their points, and say of those that there is no room for.

    Everything else must be in the figure already, which is laid out for good.
    """
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    # limits and sizes, which the places depend on
    settle(figure)
    crowded: dict[str, None] = {}
    shown = [axes for axes in figure.axes if axes.get_visible()]
    for axes, wanted in labels.items():
        # the whole figure is drawn for each, which takes longest
        for other in shown:
            other.set_visible(other is axes)
        half = _HALF * figure.dpi / 72
        texts = _texts(axes, wanted, half)
        adjust_text(
            texts,
            *_taken(axes, wanted, half).T,
            ax=axes,
            target_x=[label.x for label in wanted],
            target_y=[label.y for label in wanted],
            avoid_self=False,
            expand=(1.05, 1.25),
            force_text=(0.2, 0.4),
            force_static=(0.3, 0.3),
            # which takes longer than all else
            prevent_crossings=False,
            # a number of rounds: a limit of time would draw another sheet on another machine
            iter_lim=_ROUNDS,
        )
        boxes: list[Any] = []
        inside = axes.get_window_extent().padded(1)
        for label, text in zip(wanted, texts, strict=True):
            box = text.get_window_extent(renderer)
            within = inside.contains(box.x0, box.y0) and inside.contains(box.x1, box.y1)
            if within and not any(box.overlaps(other) for other in boxes):
                boxes.append(box)
                _lead(axes, label, text, box, half)
            else:
                crowded[label.text] = None
                text.remove()
    for axes in shown:
        axes.set_visible(True)
    names = list(crowded)
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return [f"no room for the labels of some points: {'; '.join(names[:_NAMED])}{more}"] if names else []


def _texts(axes: Axes, labels: Sequence[Label], half: float) -> list[Text]:
    """The labels to the right of their points, those of points at one place below each other."""
    texts: list[Text] = []
    places = [np.asarray(axes.transData.transform((label.x, label.y))) for label in labels]
    for i, (label, place) in enumerate(zip(labels, places, strict=True)):
        above = sum(bool((abs(other - place) < half).all()) for other in places[:i])
        x, y = axes.transData.inverted().transform(place + np.multiply(half, (2, -2 * above)))
        text = axes.text(x, y, label.text, fontsize=7, color=dark(label.colour), va="center", zorder=4)
        text.set_path_effects([withStroke(linewidth=2, foreground="white")])
        text.set_in_layout(False)
        texts.append(text)
    return texts


def _taken(axes: Axes, labels: Sequence[Label], half: float) -> np.ndarray:
    """Places along every line of the axes, and around the points that have labels."""
    paths = [np.column_stack(line.get_data()) for line in axes.lines]
    paths += [np.asarray(s) for c in axes.collections if isinstance(c, LineCollection) for s in c.get_segments()]
    centres = axes.transData.transform([(label.x, label.y) for label in labels] or np.empty((0, 2)))
    taken = [centres + np.multiply(way, half) for way in ((1, 0), (-1, 0), (0, 1), (0, -1))]
    for path in paths:
        for start, end in pairwise(axes.transData.transform(path)):
            taken.append(np.linspace(start, end, max(2, int(np.hypot(*(end - start)) / _STRIDE))))
    # once each: every round looks at every label and place
    places = np.concatenate(taken)
    _, first = np.unique(np.round(places / _GRID), axis=0, return_index=True)
    return np.asarray(axes.transData.inverted().transform(places[np.sort(first)]))


def _lead(axes: Axes, label: Label, text: Text, box: Any, half: float) -> None:
    """Draw a line from a label to its point where they lie apart."""
    x, y = axes.transData.transform((label.x, label.y))
    away = math.hypot(max(box.x0 - x, 0, x - box.x1), max(box.y0 - y, 0, y - box.y1))
    if away > 3 * half:
        leader = {"arrowstyle": "-", "linewidth": 0.5, "color": label.colour, "shrinkA": 0, "shrinkB": 4}
        # an artist of its own, so that the text's box is that of the text
        line = axes.annotate("", (label.x, label.y), xytext=text.get_position(), arrowprops=leader, zorder=3.5)
        line.arrow_patch.set_patchA(text)  # type: ignore[union-attr, arg-type]
        line.set_in_layout(False)


def settle(figure: Figure) -> None:
    """Lay the figure out for good, once, and not by the format that happens to be the first."""
    if (engine := figure.get_layout_engine()) is not None:
        engine.execute(figure)
        figure.set_layout_engine(None)
        renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
        for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
            _thin(axis, renderer)


def _thin(axis: Axis, renderer: RendererAgg) -> None:
    """Give an axis of numbers as many ticks as its length has room for, so that their names never run together."""
    locator = axis.get_major_locator()
    coarser: list[Locator] = []
    if isinstance(locator, LogLocator):
        base = locator._base  # type: ignore[attr-defined]
        coarser += [LogLocator(base, (1, 3)), LogLocator(base)] if base == 10 else []
        coarser += [LogLocator(base**power) for power in range(2, 20)]
    elif isinstance(locator, MaxNLocator):
        coarser += [MaxNLocator(nbins=most, steps=[1, 2, 2.5, 5, 10]) for most in (5, 4, 3, 2)]
    elif isinstance(locator, FixedLocator) and axis.get_scale() == "log":
        apart: list[tuple[float, Bbox]] = []
        for place, box in _ticks(axis, renderer):
            if not apart or not box.overlaps(apart[-1][1]):
                apart.append((place, box))
        coarser += [FixedLocator([place for place, _ in apart])]
    for each in coarser:
        if not any(box.overlaps(other) for (_, box), (_, other) in pairwise(_ticks(axis, renderer))):
            return
        axis.set_major_locator(each)


def _ticks(axis: Axis, renderer: RendererAgg) -> list[tuple[float, Bbox]]:
    """The places of the ticks that have a name, and the room that it takes."""
    low, high = sorted(axis.get_view_interval())
    named = zip(axis.get_majorticklocs(), axis.get_majorticklabels(), strict=False)
    return [(place, text.get_window_extent(renderer).padded(_APART)) for place, text in named if low <= place <= high]


def save(figure: Figure, folder: Path, name: str, formats: Sequence[str] = FORMATS) -> Iterator[Path]:
    """A file of each of ``formats`` (png, svg, pdf) without date or version, each renamed into place when whole."""
    settle(figure)
    try:
        for kind in formats:
            path = folder / f"{name}.{kind}"
            # half the time of the best compression, and hardly more bytes
            more = {"pil_kwargs": {"compress_level": 3}} if kind == "png" else {}
            with replacing(path) as part:
                figure.savefig(part, format=kind, metadata=_METADATA[kind], **more)  # type: ignore[arg-type]
            yield path
    except OSError as error:
        raise BadResults(
            f"Figures cannot be written to {folder}: {error.strerror}.", try_="-o with a folder that you may write to"
        ) from error
