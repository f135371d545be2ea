"""Rows of results as tables: which columns, and how each quantity reads to a person."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

from nfbench import units
from nfbench.analysis.rows import Row
from nfbench.showing.laid import Laid
from nfbench.showing.tables import Column, Format, printable, render
from nfbench.showing.tables import plain as _plain
from nfbench.units import shorten


def _seconds(value: Any) -> str:
    return units.seconds(value)


def count(value: Any) -> str:
    return units.ABSENT if value is None else f"{value:,.0f}"


def _si(unit: str) -> Callable[[Any], str]:
    return lambda value: units.si(value, unit)


QUANTITIES: tuple[Column, ...] = (
    Column("step_time", "step time", _seconds),
    Column("step_time_low", "interval, low", _seconds),
    Column("step_time_high", "interval, high", _seconds),
    Column("p5", "p5", _seconds),
    Column("p95", "p95", _seconds),
    Column("throughput", "images/s", units.number),
    Column("ascent", "ascent (SAM)", _seconds),
    Column("forward", "forward", _seconds),
    Column("backward", "backward", _seconds),
    Column("clip", "clip", _seconds),
    Column("update", "update", _seconds),
    Column("average", "average (EMA)", _seconds),
    Column("all_reduce", "all-reduce alone", _seconds),
    Column("exposed", "all-reduce that nothing hides", units.percent),
    Column("rank_spread", "slowest rank, of the quickest's time", lambda v: f"{units.significant(v, 3)} ×"),
    Column("gradient_bytes", "gradients reduced", units.bytes_),
    Column("first_step", "first step", _seconds),
    Column("first_short_step", "first step, cut short", _seconds),
    Column("peak_allocated", "peak memory, allocated", units.bytes_),
    Column("peak_reserved", "peak memory, reserved", units.bytes_),
    Column("peak_rss", "peak memory, process", units.bytes_),
    Column("operators", "operators a step", count),
    Column("macs", "MACs an image, forward", _si("MAC")),
    Column("params", "parameters", _si("")),
    Column("achieved_flops", "achieved", _si("FLOP/s")),
    Column("mfu", "MFU", units.percent),
    Column("step_energy", "energy a step", _si("J")),
    Column("image_energy", "energy an image", _si("J")),
    Column("sm_clock", "mean SM clock", _si("Hz")),
    Column("zero_gradients", "gradients that are zero", units.percent),
    Column("clipped_units", "units clipped", units.percent),
    Column("nonfinite_units", "units not finite", count),
    Column("skipped_updates", "fp16 updates skipped", count),
    Column("reported_v100_step_time", "reported: V100, fp16", _seconds),
    Column("reported_tpuv3_step_time", "reported: TPUv3, bf16", _seconds),
)

SETTINGS: tuple[Column, ...] = (
    Column("model", "model", right=False),
    Column("norm", "norm", _plain, right=False),
    Column("px", "px"),
    Column("batch", "batch"),
    Column("micro_batch", "micro-batch"),
    Column("precision", "precision", _plain, right=False),
    Column("layout", "layout", _plain, right=False),
    Column("compile", "compile", _plain, right=False),
    Column("optimizer", "optimizer", _plain, right=False),
    Column("agc", "agc λ", _plain),
    Column("sam", "sam ρ", _plain),
    Column("sam_fraction", "sam fraction", _plain),
    Column("sam_scope", "sam scope", _plain, right=False),
    Column("ema", "ema", _plain),
    Column("world_size", "ranks", _plain),
    Column("broadcast_buffers", "buffers broadcast", _plain, right=False),
)

OUTCOME: tuple[Column, ...] = (
    Column("status", "status", _plain, right=False),
    Column("noisy", "noisy", _plain, right=False),
    Column("rounds", "rounds"),
    Column("turns", "turns"),
    Column("steps", "steps timed", count),
    Column("composed", "composed", _plain, right=False),
    Column("stopped_by", "stopped by", _plain, right=False),
    Column("machine", "machine", _plain, right=False),
    Column("software", "software", _plain, right=False),
    Column("study", "study", _plain, right=False),
    Column("start", "start", _plain, right=False),
)

IMPLEMENTATION: tuple[Column, ...] = (
    Column("agc_impl", "clip by", _plain, right=False),
    Column("optimizer_impl", "update by", _plain, right=False),
    Column("tf32", "TF32", _plain, right=False),
    Column("cudnn_benchmark", "cuDNN benchmark", _plain, right=False),
    Column("allocator", "allocator", _plain, right=False),
    Column("threads", "threads"),
    Column("backend", "reduced by", _plain, right=False),
    Column("nodes", "nodes", _plain),
)

ALL = (*SETTINGS, *IMPLEMENTATION, *QUANTITIES, *OUTCOME, Column("findings", "findings", _plain, right=False))


_SPARE = {
    "sam_scope": 12,
    "sam_fraction": 12,
    "sam": 11,
    "software": 10,
    "study": 9,
    "peak_rss": 8,
    "peak_allocated": 8,
    "mfu": 7,
    "image_energy": 7,
    "clip": 6,
    "rounds": 5,
    "turns": 5,
    "norm": 4,
    "agc_impl": 3,
    "precision": 1,
    "layout": 1,
}
"""Columns that a narrow terminal can do without, the highest first."""
_KEY = ("model", "px", "batch", "agc", "machine")
"""What names a row, with its rate: never left out."""
_ASIDE = 2
"""Of the other settings, where they tell no rows apart."""
_TOLD = {c.key for c in (*SETTINGS, *IMPLEMENTATION)} - {"model"} | {"machine", "software", "study"}


def with_interval(row: Row) -> str:
    """The step time as '12.3 ms ± 0.4 %', with 'composed' and 'noisy' where it is."""
    value = row.get("step_time")
    if value is None:
        return units.ABSENT
    low, high = row.get("step_time_low"), row.get("step_time_high")
    text = _seconds(value)
    if low is not None and high is not None and value > 0:
        share = (high - low) / 2 / value
        text += f" ± {units.percent(share if share > 1e-9 else 0.0, 2)}"
    return text + (" (composed)" if row.get("composed") else "") + (" (noisy)" if row.get("noisy") else "")


def wide(rows: Sequence[Row], format: Format) -> str:
    """One line a row. To a person: the columns that matter; as CSV or JSON: all of them, raw."""
    return render(ALL, coded(rows, format), format) if format in ("csv", "json") else laid(rows).text(format)


def laid(rows: Sequence[Row]) -> Laid:
    """The rows with the columns that matter to a person."""
    keep = ["model", "px", "batch", "micro_batch", "precision", "layout", "agc"]
    keep += _differing(rows, "norm", "compile", "optimizer", "agc_impl", "sam", "sam_fraction", "sam_scope", "ema")
    keep += _differing(rows, "world_size", "broadcast_buffers", "backend", "nodes")
    names = {c.key: c for c in ALL}
    columns = [
        *(names[name] for name in keep if name != "micro_batch" or any(map(accumulates, rows))),
        Column("interval", "step time", right=True),
        *(names[name] for name in ("throughput", "clip", *_memory(rows), "mfu", "image_energy")),
        *(names[name] for name in ("rounds", "turns", "status")),
    ]
    columns += (names[name] for name in _differing(rows, "machine", "software"))
    shown = [{**row, "interval": with_interval(row)} for row in rows]
    columns = [c for c in columns if any(row.get(c.key) is not None for row in shown)]
    return Laid([_spared(c) for c in columns], shown)


def _spared(column: Column) -> Column:
    """The column with what a narrow terminal makes of it."""
    key = column.key
    role: Literal["", "setting", "outcome"] = (
        "setting" if key in _TOLD else "outcome" if key in ("status", "rounds", "turns") else ""
    )
    spare = 0 if key in _KEY else _SPARE.get(key, _ASIDE if role == "setting" else 0)
    return replace(column, spare=spare, role=role)


def coded(rows: Sequence[Row], format: Format) -> list[Row]:
    """The rows as CSV and JSON hold them: findings as codes or as records, tuples as words or as lists."""
    if format == "json":
        return [{**row, "findings": [f._asdict() for f in row.get("findings", ())]} for row in rows]
    return [
        {name: " ".join(map(str, value)) if isinstance(value, tuple) else value for name, value in row.items()}
        | {"findings": " ".join(f.code for f in row.get("findings", ())) or None}
        for row in rows
    ]


def findings(rows: Sequence[Row]) -> list[str]:
    """Every finding once, with the models that it is about."""
    about: dict[str, list[str]] = {}
    for row in rows:
        for finding in row.get("findings", ()):
            about.setdefault(printable(str(finding)), []).append(shorten(row["model"]))
    return [f"{', '.join(dict.fromkeys(models))}: {text}" for text, models in about.items()]


def accumulates(row: Row) -> bool:
    return bool(row.get("accumulation_steps", 1) > 1)


def _differing(rows: Sequence[Row], *names: str) -> list[str]:
    return [name for name in names if len({row.get(name) for row in rows}) > 1]


def _memory(rows: Sequence[Row]) -> list[str]:
    return [name for name in ("peak_allocated", "peak_rss") if any(name in row for row in rows)]
