"""What a normalization costs, and what a layout, precision or compile mode saves: dots with intervals, by model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nfbench import units
from nfbench.analysis import lines
from nfbench.analysis.accuracy import norm_of
from nfbench.analysis.rows import Row
from nfbench.analysis.sweeps import step
from nfbench.catalog.models import find, normalizer_free
from nfbench.errors import UnknownModel
from nfbench.showing.dots import Dot, Panel, Value, draw
from nfbench.showing.file_names import distinct
from nfbench.showing.kinds import Drawing, Held
from nfbench.showing.style import COLOURS, apart, drawable, in_order, plain
from nfbench.showing.sweep_lines import MOST_FIGURES

_NORMS = {"none": "o", "batch": "s", "sync_batch": "P", "group": "^", "frozen": "D"}
_LAYOUTS = {"nchw": "oD^PH", "nhwc": "sdvXp"}
"""Markers by precision."""
_PRECISIONS = ("fp32", "tf32", "fp16", "bf16")
_MOST = 36
"""Dots that a figure has room for."""
_LETTERS = 40
_REST = ("px", "norm", "agc", "sam", "sam_fraction", "sam_scope", "ema", "optimizer", "world_size", "software")
"""Settings in which rows must be equal to be compared by layout."""


_IMAGE = Panel("time an image", lambda v: units.si(v, "s", 2))
_MEMORY = Panel(
    "peak memory an image",
    lambda v: units.bytes_(v, 2),
    binary=True,
    note="Memory: the peak over the images of a pass, weights and optimizer included.",
)
_STEP = Panel("step time", lambda v: units.si(v, "s", 2))


def norm_cost(held: Held) -> Drawing:
    """Time and peak bytes of an image by model and norm, one figure a machine.

    It takes a net under two norms, or beside its batch-normalized twin; its counterpart nf-NAME stands with them.
    """
    why = "no other norm of it, nor its twin"
    groups = _groups(held, lambda row: _base(row["model"]), ("software",))
    few = {key for key, rows in groups.items() if not _two_norms(rows)}
    title = "measured cost of an image, by norm"
    drawing = _drawing(groups, ("software",), few, why, _norm_dots, (_IMAGE, _MEMORY), title)
    drawn = {machine for machine, _ in drawing.figures}
    shared = (row["machine"] for key, rows in groups.items() if key not in few for row in rows if _of_process(row))
    drawing.notes.extend(
        f"peak memory on {plain(machine)}: it is of the whole process, Python and torch included"
        for machine in dict.fromkeys(shared)
        if machine in drawn
    )
    return drawing


def layouts(held: Held) -> Drawing:
    """Step time by model, layout, precision and compile mode, one figure a machine.

    It takes a net in two of them at one batch and px.
    """
    keys = ("batch", *_REST)
    groups = _groups(held, lambda row: str(row["model"]), keys)
    few = {key for key, rows in groups.items() if len({_way(row) for row in rows}) < 2}
    why = "one layout, precision and compile mode only"
    title = "measured step time, by layout, precision and compile mode"
    return _drawing(groups, keys, few, why, _layout_dots, (_STEP,), title)


_Groups = dict[tuple[object, ...], list[Row]]


def _groups(held: Held, net: Callable[[Row], str], keys: Sequence[str]) -> _Groups:
    """The rows by machine, ``net`` and what they have under ``keys``."""
    found: _Groups = {}
    named = zip(held.rows, lines.names(held.rows), strict=True)
    rows = [step(row) | {"net": name} for row, name in named]
    for row in sorted(rows, key=lambda row: (row["machine"], in_order(row), row["net"], row["batch"])):
        found.setdefault((row["machine"], net(row), *(row.get(key) for key in keys)), []).append(row)
    return found


def _drawing(
    groups: _Groups,
    keys: Sequence[str],
    few: set[tuple[object, ...]],
    why: str,
    dots: Callable[[Sequence[Row]], list[Dot]],
    panels: Sequence[Panel],
    title: str,
) -> Drawing:
    drawing = Drawing()
    machines: dict[str, list[tuple[str, list[Dot]]]] = {}
    shown: dict[str, list[Row]] = {}
    for key, rows in groups.items():
        machine = str(key[0])
        if key in few:
            drawing.leave_out(rows, why)
            continue
        if machine not in machines and len(machines) == MOST_FIGURES:
            drawing.leave_out(rows, f"there is room for {MOST_FIGURES} figures: draw fewer at once, with --where")
            continue
        there = machines.setdefault(machine, [])
        fitting = _fitting(rows, _MOST - sum(len(some) for _, some in there))
        kept = set(map(id, fitting))
        why_not = f"a figure has room for {_MOST} rows: draw fewer at once, with --where"
        drawing.leave_out((row for row in rows if id(row) not in kept), why_not)
        if fitting:
            shown.setdefault(machine, []).extend(fitting)
            there.append((_header(key, groups, keys), dots(fitting)))
    for machine, named in machines.items():
        headers = distinct((header for header, _ in named), "{} ({})")
        some = [(header, each) for header, (_, each) in zip(headers, named, strict=True)]
        if any(value for _, each in some for dot in each for value in dot.values):
            drawing.figures.append((machine, draw(some, panels, f"{plain(machine, 44)}: {title}")))
            drawing.drawn.extend(shown[machine])
        else:
            drawing.leave_out(shown.get(machine, ()), "no value on that machine")
    return drawing


def _fitting(rows: Sequence[Row], room: int) -> list[Row]:
    """The rows of as many batches as there is room for, those first that have most rows."""
    batches: dict[int, list[Row]] = {}
    for row in rows:
        batches.setdefault(row["batch"], []).append(row)
    found: list[Row] = []
    for some in sorted(batches.values(), key=len, reverse=True):
        found += some if len(found) + len(some) <= room else []
    return found


def _header(key: tuple[object, ...], groups: _Groups, keys: Sequence[str]) -> str:
    """The model of a group, with what it has under ``keys`` where another group of that model has others."""
    same = [other for other in groups if other[:2] == key[:2]]
    differ = [i for i in range(2, len(key)) if len({other[i] for other in same}) > 1]
    told = {keys[i - 2]: key[i] for i in differ if key[i] is not None}
    batch = [f"batch {told.pop('batch')}"] if "batch" in told else []
    software = [plain(str(told.pop("software")), 44)] if "software" in told else []
    return ", ".join([plain(str(key[1]), 32), *batch, *lines.worded(told), *software])


def _base(model: str) -> str:
    """The normalizer-free net that a net is compared with, itself where there is none."""
    nf = normalizer_free(model)
    if nf is not None:
        return nf.name
    try:
        return find(model).name
    except UnknownModel:
        return model


def _norm(row: Row) -> str:
    return str(row.get("norm") or norm_of(row["model"]) or "unknown")


def _normed(row: Row) -> str:
    norm = _norm(row)
    return "no norm" if norm == "none" else f"{norm.replace('_', ' ')} norm"


def _two_norms(rows: Sequence[Row]) -> bool:
    norms: dict[str, set[str]] = {}
    for row in rows:
        norms.setdefault(row["model"], set()).add(_norm(row))
    twin = any(name.startswith("bn-") and name.removeprefix("bn-") in norms for name in norms)
    return twin or any(len(each) > 1 for each in norms.values())


def _way(row: Row) -> tuple[object, ...]:
    return row.get("layout"), row.get("precision"), row.get("compile")


def _time(row: Row, share: float = 1.0) -> Value | None:
    ends = row.get("step_time_low"), row.get("step_time_high")
    if not drawable(row.get("step_time")):
        return None
    low, high = (end * share if drawable(end) and end is not None else None for end in ends)
    return Value(row["step_time"] * share, low, high)


def _why(row: Row) -> str:
    status = str(row.get("status"))
    return "absent" if status == "ok" else status.replace("_", " ")


def _norm_dots(rows: Sequence[Row]) -> list[Dot]:
    names = lines.names(rows, swept=("norm", "agc", "agc_impl"))
    batches = len({row["batch"] for row in rows}) > 1
    pairs = zip(rows, names, strict=True)
    ordered = sorted(pairs, key=lambda pair: (_norm(pair[0]) != "none", pair[1], pair[0]["batch"]))
    labels = []
    for row, name in ordered:
        told = [] if _normed(row) in name else [_normed(row)]
        labels.append(", ".join([plain(name, _LETTERS), *told, *([f"batch {row['batch']}"] if batches else [])]))
    found = []
    for (row, _), label in zip(ordered, apart(labels, [row for row, _ in ordered]), strict=True):
        norm, named = _norm(row), _normed(row)
        place = list(_NORMS).index(norm) if norm in _NORMS else len(_NORMS)
        memory = None if _of_process(row) else row.get("memory_image")
        values = (
            _time(row, 1 / row["batch"]) if row["batch"] > 0 else None,
            Value(memory) if memory is not None and 1 <= memory < 1e18 else None,
        )
        found.append(Dot(label, COLOURS[place], _NORMS.get(norm, "X"), named, values, _why(row)))
    return found


def _of_process(row: Row) -> bool:
    return row.get("peak_memory_of") == "process"


def _in_way(row: Row) -> tuple[str, str, bool, str]:
    layout, precision, compile = map(str, _way(row))
    return layout, precision, compile != "none", compile


def _layout_dots(rows: Sequence[Row]) -> list[Dot]:
    ordered = sorted(rows, key=_in_way)
    labels = []
    for layout, precision, compile in map(_way, ordered):
        parts = [str(layout or "?"), str(precision or "?"), *([f"compile {compile}"] if compile != "none" else [])]
        labels.append(", ".join(parts))
    found = []
    for row, label in zip(ordered, apart(labels, ordered), strict=True):
        layout, precision, _ = _way(row)
        place = _PRECISIONS.index(str(precision)) if precision in _PRECISIONS else len(_PRECISIONS)
        named = f"{layout or '?'}, {precision or '?'}"
        marker = _LAYOUTS.get(str(layout), "<>*h8")[place]
        found.append(Dot(label, COLOURS[place], marker, named, (_time(row),), _why(row)))
    return found
