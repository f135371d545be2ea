"""Rows of `agc-cost` as tables: the clip by itself, and its share of a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nfbench import units
from nfbench.analysis.rows import Row
from nfbench.showing.laid import Laid
from nfbench.showing.tables import Column, Format, plain, render


def _count(value: Any) -> str:
    return units.ABSENT if value is None else f"{value:,.0f}"


def _rate(value: Any) -> str:
    return units.si(value, "B/s")


CLIPS: tuple[Column, ...] = (
    Column("model", "model", right=False),
    Column("clipped", "over the limit", units.percent, role="setting"),
    Column("impl", "clip by", right=False, role="setting"),
    Column("shown_time", "a call"),
    Column("shown_speedup", "timm's takes"),
    Column("launches", "launches", _count, spare=3),
    Column("operators", "operators", _count, spare=5),
    Column("bandwidth", "achieved", _rate, spare=4),
    Column("floor", "floor", units.seconds, spare=2),
    Column("shown_over_floor", "of the floor", spare=1),
    Column("machine", "machine", right=False, role="setting"),
    Column("status", "status", plain, right=False),
)

STEPS: tuple[Column, ...] = (
    Column("model", "model", right=False),
    Column("batch", "batch", role="setting"),
    Column("px", "px", spare=2, role="setting"),
    Column("precision", "precision", right=False, spare=1, role="setting"),
    Column("agc_impl", "clip by", right=False, role="setting"),
    Column("step_time", "step time", units.seconds),
    Column("clip", "clip", units.seconds),
    Column("share", "clip's share", units.percent),
    Column("clipped_units", "units clipped", units.percent, spare=3),
    Column("machine", "machine", right=False, role="setting"),
    Column("status", "status", plain, right=False),
)

_RAW = """
kind model layout clipped clipped_units units impl agc_impl batch px precision time time_low time_high
speedup operators launches moved_bytes bandwidth copy_bandwidth floor over_floor
step_time clip share turns status message machine software
"""
RAW: tuple[Column, ...] = tuple(Column(key, key) for key in _RAW.split())


def _interval(row: Row, name: str, unit: str) -> str:
    """'12.3 ms ± 0.4 %' or '4.21 ± 0.03 ×'."""
    value, low, high = (row.get(f"{name}{end}") for end in ("", "_low", "_high"))
    if value is None:
        return units.ABSENT
    if unit == "s":
        half = None if low is None or high is None or not value else (high - low) / 2
        return units.seconds(value) + ("" if half is None else f" ± {units.percent(half / value, 2)}")
    return (units.significant(value, 3) if low == high else units.interval(value, low, high)) + " ×"


def _shown(row: Row) -> Row:
    return {
        **row,
        "shown_time": _interval(row, "time", "s"),
        "shown_speedup": _interval(row, "speedup", "×"),
        "shown_over_floor": _interval(row, "over_floor", "×"),
    }


def _kept(columns: Sequence[Column], rows: Sequence[Row]) -> list[Column]:
    """Columns that hold something; status only where something is not ok, the machine only where there are two."""
    return [
        c
        for c in columns
        if any(row.get(c.key) is not None for row in rows)
        and (c.key != "status" or any(row.get("status") != "ok" for row in rows))
        and (c.key != "machine" or len({row.get("machine") for row in rows}) > 1)
    ]


def tables(clips: Sequence[Row], steps: Sequence[Row], format: Format) -> str:
    """Both tables to a person; one of raw values in SI units, kinds apart in its first column, as CSV or JSON."""
    if format in ("csv", "json"):
        return render(RAW, [*clips, *steps], format)
    return "\n".join(table.text(format) for table in laid(clips, steps))


def laid(clips: Sequence[Row], steps: Sequence[Row]) -> list[Laid]:
    """Both tables for a person, of which each is left out where it has no row."""
    shown = [{name: v for name, v in _shown(row).items() if v != units.ABSENT} for row in clips]
    parts = []
    if shown:
        parts.append(Laid(_kept(CLIPS, shown), shown, "The clip by itself"))
    if steps:
        parts.append(Laid(_kept(STEPS, steps), steps, "The clip in a step"))
    return parts


def legend(clips: Sequence[Row]) -> list[str]:
    """What the columns mean that need saying, with the measured bandwidth."""
    rates: dict[str, list[float]] = {}
    for row in clips:
        if "copy_bandwidth" in row:
            rates.setdefault(row["machine"], []).append(row["copy_bandwidth"])
    lines = (
        ["± is half of the 95 % interval over turns, within this run; a ratio of one process has none."]
        if clips
        else []
    )
    for machine, found in rates.items():
        low, high = _rate(min(found)), _rate(max(found))
        lines.append(
            f"Floor: W, G and what is clipped of G again, at the {low if low == high else f'{low} to {high}'} "
            f"that a copy reached in the same turns{f' on {machine}' if len(rates) > 1 else ''}."
        )
    return lines
