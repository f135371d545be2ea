"""Figures, each one function: PNG and SVG, the same bytes from the same rows.

A figure is drawn where the rows hold what it needs; what could not be drawn is named with the reason. Measured points
are filled, reported ones are hollow, and the legend says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nfbench.analysis.rows import Row
from nfbench.catalog import macs, published
from nfbench.catalog.models import FAMILIES, NETS, Net
from nfbench.devices.about import slug
from nfbench.errors import BadResults

# Okabe and Ito's colours: told apart with any kind of colour vision
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F", "#8C6D31")
_MARKERS = "osD^vPX*<>hpd8"  # one a family, since there are more families than colours
_OTHERWISE = ("nfnet-ladder",)
"""Families whose reported accuracy was trained without augmentation: no figure sets it beside the others."""
_MORE = (
    ("norm", "{} norm"),
    ("agc_impl", "clip by {}"),
    ("sam", "SAM {}"),
    ("sam_fraction", "of {}"),
    ("sam_scope", "a {}"),
    ("ema", "EMA {}"),
    ("micro_batch", "passes of {}"),
    ("optimizer", "{}"),
    ("compile", "compile {}"),
    ("software", "{}"),
)
_SHORT = {"nfnet": (6, -12), "efficientnet": (-8, 5)}
"""Families whose points are labelled by variant, and where the label stands, in points."""

_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "nfbench",
    "svg.fonttype": "path",
    "text.parse_math": False,  # names come from anybody's results
    "font.size": 9,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.dpi": 150,
    "savefig.facecolor": "white",
}


class Drawn(NamedTuple):
    """The files that were written, and what was left out with the reason."""

    files: list[Path]
    left_out: list[str]


def draw(rows: Sequence[Row], folder: Path) -> Drawn:
    """Every figure that ``rows`` hold enough for, one file of each machine and kind, into ``folder``.

    Raises:
        BadResults: the folder cannot be written.
    """
    drawn = Drawn([], [])
    machines: dict[str, list[Row]] = {}
    for row in rows:
        machines.setdefault(row["machine"], []).append(row)
    with rc_context(_STYLE):
        for machine, group in machines.items():
            rated = [row for row in group if "step_time" in row]
            drawn.left_out.extend(
                f"{r['model']} on {machine}: {r['status']}, no step time" for r in group if r not in rated
            )
            prefix = f"{slug(machine)}-" if len(machines) > 1 else ""
            if rated:
                for name, figure in (("step-time", step_time), ("throughput", throughput)):
                    drawn.files.extend(_save(figure(rated, machine), folder, prefix + name))
        measured = {row["model"] for row in rows}
        drawn.files.extend(_save(accuracy_vs_macs(measured), folder, "reported-accuracy-vs-macs"))
    return drawn


def step_time(rows: Sequence[Row], machine: str) -> Figure:
    """Milliseconds of one optimizer update per model, with intervals."""

    def value(row: Row) -> tuple[float, float | None, float | None]:
        low, high = row.get("step_time_low"), row.get("step_time_high")
        return 1e3 * row["step_time"], low and 1e3 * low, high and 1e3 * high

    return _by_model(rows, machine, "step time, ms", value)


def throughput(rows: Sequence[Row], machine: str) -> Figure:
    """Images per second per model, with the intervals of the step time."""

    def value(row: Row) -> tuple[float, float | None, float | None]:
        low, high = row.get("step_time_low"), row.get("step_time_high")
        return row["batch"] / row["step_time"], high and row["batch"] / high, low and row["batch"] / low

    return _by_model(rows, machine, "throughput, images/s", value)


def accuracy_vs_macs(measured: Iterable[str] = ()) -> Figure:
    """Reported ImageNet top-1 against counted MACs at the px of the report, families as lines.

    NFNets and EfficientNets are labelled by their variant, the nets that the results hold (``measured``) by name.
    """
    figure = Figure(figsize=(6.4, 4.6), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xscale("log")
    wanted = set(measured)
    handles: list[Line2D] = []
    for family, points in _families():
        colour, marker = _look(family)
        x, y = [p[1] for p in points], [p[2] for p in points]
        axes.plot(x, y, color=colour, linewidth=1, marker=marker, markersize=5, markerfacecolor="white", zorder=2)
        label = f"{family} ({'no batch norm' if points[0][0].norm == 'none' else 'batch norm'})"
        handles.append(Line2D([], [], color=colour, marker=marker, markersize=5, markerfacecolor="white", label=label))
        for net, gmacs, top1 in points:
            short = net.name.rpartition("-")[2].upper() if family in _SHORT else None
            text = net.name if net.name in wanted else short
            if text:
                place = _SHORT.get(family, (5, -9))
                axes.annotate(
                    text, (gmacs, top1), xytext=place, textcoords="offset points", fontsize=7, ha="center", color=colour
                )
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel("counted GMACs of one image at the test px")
    axes.set_ylabel("reported ImageNet top-1, %")
    axes.set_title("Reported accuracy, counted cost", loc="left")
    axes.legend(handles=handles, fontsize=7, frameon=False, loc="lower right")
    return figure


def _families() -> Iterator[tuple[str, list[tuple[Net, float, float]]]]:
    for family in (name for name in FAMILIES if name not in _OTHERWISE):
        points = []
        for net in NETS:
            top1 = published.top1(net) if net.family == family else None
            px = (top1.px if top1 else None) or net.test_px
            count = macs.counted(net.name, px) if top1 and px else None
            if top1 and count:
                points.append((net, count.macs / 1e9, top1.top1))
        if points:
            yield family, sorted(points, key=lambda p: p[1])


def _by_model(
    rows: Sequence[Row], machine: str, label: str, value: Callable[[Row], tuple[float, float | None, float | None]]
) -> Figure:
    ordered = sorted(
        rows, key=lambda r: (FAMILIES.index(r["family"]) if r.get("family") in FAMILIES else 99, r["model"])
    )
    figure = Figure(figsize=(6.4, 1.3 + 0.3 * len(ordered)), layout="constrained")
    axes = figure.add_subplot()
    families: dict[str, Any] = {}
    for place, row in enumerate(ordered):
        centre, low, high = value(row)
        colour, marker = _look(row.get("family", ""))
        if low is not None and high is not None:
            axes.plot([low, high], [place, place], color=colour, linewidth=2, solid_capstyle="butt", zorder=2)
        (line,) = axes.plot([centre], [place], color=colour, marker=marker, markersize=6, linestyle="none", zorder=3)
        families.setdefault(row.get("family", ""), line)
    axes.set_yticks(range(len(ordered)), [_name(row, ordered) for row in ordered])
    axes.invert_yaxis()
    _from_zero(axes)
    axes.set_xlabel(label)
    axes.set_title(f"{machine}: measured, with 95 % intervals", loc="left", fontsize=9)
    return figure


def _from_zero(axes: Axes) -> None:
    axes.margins(x=0.08)
    axes.set_xlim(left=0)


def _name(row: Row, rows: Sequence[Row]) -> str:
    """The model, with the settings in which the rows differ."""
    parts = [str(row["model"])]
    for key, text in (
        ("px", "{} px"),
        ("batch", "batch {}"),
        ("precision", "{}"),
        ("layout", "{}"),
        ("agc", "λ {}"),
        *_MORE,
    ):
        if key in row and len({r.get(key) for r in rows if r["model"] == row["model"]}) > 1:
            parts.append(text.format(row[key]))
    shared = [key for key in ("px", "batch") if len({r.get(key) for r in rows}) > 1]
    parts += [f"{row[key]} px" if key == "px" else f"batch {row[key]}" for key in shared if key in row]
    if row.get("composed"):
        parts.append("composed")
    return ", ".join(dict.fromkeys(parts))


def _look(family: str) -> tuple[str, str]:
    place = FAMILIES.index(family) if family in FAMILIES else len(FAMILIES)
    return _COLOURS[place % len(_COLOURS)], _MARKERS[place % len(_MARKERS)]


def _save(figure: Figure, folder: Path, name: str) -> Iterator[Path]:
    """PNG and SVG without date or version, each renamed into place when whole."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
            path, part = folder / f"{name}.{kind}", folder / f".{name}.{kind}.part"
            figure.savefig(part, format=kind, metadata=metadata)
            part.replace(path)
            yield path
    except OSError as error:
        raise BadResults(
            f"Figures cannot be written to {folder}: {error.strerror}.", try_="-o with a folder that you may write to"
        ) from error
