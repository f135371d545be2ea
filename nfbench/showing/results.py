"""Rows of timed steps as a table: which columns, and how each quantity reads to a person."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from nfbench import units
from nfbench.catalog.published import PAPER
from nfbench.records import PHASES, SIMULATED
from nfbench.showing.tables import (
    Column,
    Format,
    Laid,
    Line,
    Row,
    about_each,
    plain,
    raw,
    render,
    telling,
    upright,
    with_ends,
)
from nfbench.units import printable, shorten


def count(value: Any) -> str:
    """A whole number with thousands kept readable."""
    return units.ABSENT if value is None else f"{value:,.0f}"


def si(unit: str) -> Callable[[Any], str]:
    """What shows a value with its SI prefix and ``unit``."""
    return lambda value: units.si(value, unit).rstrip()


def step_time(row: Row) -> str:
    """The step time as '12.3 ms ± 0.4 %', with 'composed' and 'noisy' where it is."""
    if row.get("step_time") is None:
        return units.ABSENT
    text = units.seconds_interval(*with_ends(row, "step_time"))
    return text + "".join(f" ({word})" for word in ("composed", "noisy") if row.get(word))


QUANTITIES: tuple[Column, ...] = (
    Column("step_time", "step time", cell=step_time),
    Column("step_time_low", "interval, low", units.seconds),
    Column("step_time_high", "interval, high", units.seconds),
    Column("p5", "p5", units.seconds),
    Column("p95", "p95", units.seconds),
    Column("throughput", "images/s", units.number),
    Column("ascent", "ascent (SAM)", units.seconds),
    Column("forward", "forward", units.seconds),
    Column("backward", "backward", units.seconds),
    Column("unscale", "unscale (fp16)", units.seconds),
    Column("clip", "clip", units.seconds, spare=6),
    Column("update", "update", units.seconds),
    Column("average", "average (EMA)", units.seconds),
    Column("all_reduce", "all-reduce alone", units.seconds),
    Column("exposed", "all-reduce that nothing hides", units.percent),
    Column("rank_spread", "slowest rank, of the quickest's time", lambda v: f"{units.significant(v, 3)} ×"),
    Column("gradient_bytes", "gradients reduced", units.bytes_),
    Column("first_step", "first step", units.seconds),
    Column("first_short_step", "first step, cut short", units.seconds),
    Column("peak_allocated", "peak memory, allocated", units.bytes_, spare=8),
    Column("peak_reserved", "peak memory, reserved", units.bytes_),
    Column("peak_rss", "peak memory, process", units.bytes_, spare=8),
    Column("operators", "operators a step", count),
    Column("macs", "MACs an image, forward", si("MAC")),
    Column("params", "parameters", si("")),
    Column("achieved_flops", "achieved", si("FLOP/s")),
    Column("mfu", "MFU", units.percent, spare=7),
    Column("step_energy", "energy a step", si("J")),
    Column("image_energy", "energy an image", si("J"), spare=7),
    Column("sm_clock", "mean SM clock", si("Hz")),
    Column("zero_gradients", "gradients that are zero", units.percent),
    Column("clipped_units", "units clipped", units.percent),
    Column("nonfinite_units", "units not finite", count),
    Column("skipped_updates", "fp16 updates skipped", count),
    Column("reported_v100_step_time", "reported: V100, fp16", units.seconds),
    Column("reported_tpuv3_step_time", "reported: TPUv3, bf16", units.seconds),
)

SETTINGS: tuple[Column, ...] = (
    Column("model", "model", right=False),
    Column("norm", "norm", right=False, spare=4),
    Column("px", "px"),
    Column("batch", "batch"),
    Column("micro_batch", "micro-batch", spare=2),
    Column("precision", "precision", right=False, spare=1),
    Column("layout", "layout", right=False, spare=1),
    Column("compile", "compile", right=False, spare=2),
    Column("optimizer", "optimizer", right=False, spare=2),
    Column("agc", "agc λ"),
    Column("sam", "sam ρ", spare=11),
    Column("sam_fraction", "sam fraction", spare=12),
    Column("sam_scope", "sam scope", right=False, spare=12),
    Column("ema", "ema", spare=2),
    Column("world_size", "ranks", spare=2),
    Column("broadcast_buffers", "buffers broadcast", right=False, spare=2),
)

OUTCOME: tuple[Column, ...] = (
    Column("status", "status", right=False),
    Column("noisy", "noisy", right=False),
    Column("rounds", "rounds", spare=5),
    Column("turns", "turns", spare=5),
    Column("steps", "steps timed", count),
    Column("composed", "composed", right=False),
    Column("stopped_by", "stopped by", right=False),
    Column("machine", "machine", right=False),
    Column("software", "software", right=False, spare=10),
    Column("study", "study", right=False),
    Column("start", "start", right=False),
)

IMPLEMENTATION: tuple[Column, ...] = (
    Column("agc_impl", "clip by", right=False, spare=3),
    Column("optimizer_impl", "update by", right=False, spare=2),
    Column("tf32", "TF32", right=False, spare=2),
    Column("cudnn_benchmark", "cuDNN benchmark", right=False, spare=2),
    Column("allocator", "allocator", right=False, spare=2),
    Column("threads", "threads", spare=2),
    Column("backend", "reduced by", right=False, spare=2),
    Column("nodes", "nodes", spare=2),
)

ALL = (*SETTINGS, *IMPLEMENTATION, *QUANTITIES, *OUTCOME, Column("findings", "findings", right=False))

_SHOWN = (
    *("model", "px", "batch", "micro_batch", "precision", "layout", "agc"),
    *("norm", "compile", "optimizer", "agc_impl", "sam", "sam_fraction", "sam_scope", "ema"),
    *("world_size", "broadcast_buffers", "backend", "nodes"),
    *("step_time", "throughput", "clip", "peak_allocated", "peak_rss", "mfu", "image_energy"),
    *("rounds", "turns", "status", "machine", "software"),
)
_WHERE_THEY_DIFFER = _SHOWN[_SHOWN.index("norm") : _SHOWN.index("step_time")]


def laid(rows: Sequence[Row]) -> Laid:
    """The rows with the columns that matter to a person."""
    hidden = {key for key in _WHERE_THEY_DIFFER if len({row.get(key) for row in rows}) < 2}
    hidden |= set() if any(map(accumulates, rows)) else {"micro_batch"}
    by_key = {c.key: c for c in ALL}
    columns = [by_key[key] for key in _SHOWN if key not in hidden]
    return Laid(telling(columns, rows, always=("step_time", "status")), rows)


def findings(rows: Sequence[Row]) -> list[str]:
    """Every finding once, with the models that it is about."""
    return about_each((printable(str(f)), shorten(row["model"])) for row in rows for f in row.get("findings", ()))


def accumulates(row: Row) -> bool:
    """Whether an update has several passes."""
    return bool(row.get("accumulation_steps", 1) > 1)


_ASKED = ("sam", "sam_fraction", "sam_scope", "ema", "world_size", "broadcast_buffers")
"""Settings that a sheet shows only where they were asked for."""
_REPORTED = tuple(c for c in QUANTITIES if c.key.startswith("reported_"))
_TITLE = f"Reported, not measured here: a step of batch 32 a device ({PAPER})"
_ENDS = ("step_time_low", "step_time_high")
"""What stands in the line of the step time."""


def sheet(rows: Sequence[Row], format: Format) -> str:
    """One column a row and one line a quantity, for a few models side by side, and what is reported of them in a table
    of its own; CSV and JSON as `ALL` has it."""
    if format in ("csv", "json"):
        return raw(ALL, rows, format)
    measured = upright("", [plain(row.get("model")) for row in rows], _lines(rows), rows).text(format)
    return "\n".join([measured, *_reported(rows, format)])


def _lines(rows: Sequence[Row]) -> Iterator[Line]:
    if any(SIMULATED in str(row.get("machine")) for row in rows):
        yield "machine", lambda row: plain(row.get("machine"))
    yield from (("precision", _precision), ("layout", _layout), ("batch", _batch))
    for column in (*SETTINGS, *IMPLEMENTATION):
        held = any(column.key in row for row in rows)
        named = column.key in ("px", "norm", "agc", "optimizer", "compile")
        if named or (held and (column.key in _ASKED or column in IMPLEMENTATION)):
            yield column.title, column.text
    yield "step time", step_time
    for column in QUANTITIES[1:]:
        if column not in _REPORTED and column.key not in _ENDS and any(column.key in row for row in rows):
            yield column.title, partial(_cell, column=column)
    yield "steps timed", _steps


def _reported(rows: Sequence[Row], format: Format) -> list[str]:
    """What the paper reports of the nets, a column a source, where it does."""
    reported = {row["model"]: row for row in rows if any(c.holds(row) for c in _REPORTED)}
    if not reported:
        return []
    columns = [replace(c, title=c.title.removeprefix("reported: ")) for c in _REPORTED]
    columns = [Column("model", "model", right=False), *columns]
    return [render(telling(columns, [*reported.values()]), [*reported.values()], format, _TITLE)]


def _precision(row: Row) -> str:
    precision = plain(row.get("precision"))
    return f"auto → {precision}" if row.get("asked_precision") == "auto" else precision


def _layout(row: Row) -> str:
    """'nhwc (nchw 1.4× the time)' where both were tried and one is quicker beyond doubt."""
    layout = row.get("layout")
    trials = {name: row.get(f"trial_{name}") for name in ("nchw", "nhwc")}
    if layout is None or row.get("asked_layout") != "best":
        return plain(layout)
    if "layout_trial" in row:
        return f"{layout} (trial {row['layout_trial']})"
    other = "nchw" if layout == "nhwc" else "nhwc"
    time, other_time = trials[layout], trials[other]
    if time and other_time:
        return f"{layout} ({other} {other_time / time:.2f}× the time)"
    return f"{layout} ({other} does not fit)" if time else str(layout)


def _batch(row: Row) -> str:
    parts = [f"{row['world_size']} ranks"] if "world_size" in row else []
    parts += [str(row["accumulation_steps"])] if accumulates(row) else []
    text = plain(row.get("batch"))
    return f"{text} ({' × '.join(parts)} × {row['micro_batch']})" if parts and "micro_batch" in row else text


def _cell(row: Row, column: Column) -> str:
    text = column.text(row)
    step_time = row.get("step_time")
    if column.key == "clipped_units" and row.get("inspected_images", row["batch"]) < row["batch"]:
        text += f" (over {row['inspected_images']:.0f} images)"
    if column.key in PHASES and step_time and column.key in row:
        text += f" ({100 * row[column.key] / step_time:.0f} %)"
    return text


def _steps(row: Row) -> str:
    why = {"within": "narrow enough", "max_time": "at the cap", "turn_time": "end of turn"}.get(
        row.get("stopped_by", "")
    )
    steps = row.get("steps")
    unit = f" of {row['passes']:.0f} passes" if row.get("composed") and "passes" in row else ""
    return count(steps) + unit + (f" ({why})" if why else "")
